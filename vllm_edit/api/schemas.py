"""The bodies of requests and responses."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field

from retriever import FactLimits
from vllm_edit.api.probe_schemas import JudgedOut, ProbesIn, ProbesOut, SetProbesIn
from vllm_edit.domain.edit import Edit, EditRequest, Status
from vllm_edit.domain.edit_set import EditSet
from vllm_edit.domain.json_values import from_json
from vllm_edit.domain.neuron import Neuron
from vllm_edit.domain.own_answers import OwnAnswers

MAX_ALIASES = FactLimits().aliases
"""Most aliases of one edit."""


class EditIn(BaseModel):
    """One fact to correct."""

    model_config = ConfigDict(extra="forbid", strict=True)

    method: str = Field(description="How it takes effect, for example ike or rome.")
    prompt: str = Field(
        description="A text that ends where the answer begins; contains the subject."
    )
    subject: str = Field(description="What the fact is about, exactly as in the prompt.")
    target_new: str = Field(description="The right answer.")
    ground_truth: str | None = Field(
        None, description="The answer that the model gives without the edit, if known."
    )
    aliases: list[str] = Field(
        [], max_length=MAX_ALIASES, description="Other names of the subject, for memory edits."
    )
    user: str | None = Field(
        None, description="With memprompt: the only user whose requests it is for."
    )
    edit_set: str | None = Field(None, description="The edit set that it belongs to, if any.")
    pause_mode: Literal["keep", "wait", "abort"] | None = Field(
        None,
        description="What its weight swaps do with running requests; the server's default if null.",
    )
    probes: ProbesIn | None = Field(
        None, description="The probes that it is judged by; those of its edit set if null."
    )
    keep: bool = Field(
        False,
        description="Keep it in effect even if the server, asked its prompt, does not begin its "
        "answer with target_new.",
    )
    wait: bool = Field(False, description="Answer when the edit is active or has failed.")

    def request(self) -> EditRequest:
        return from_json(EditRequest, self.model_dump(exclude={"wait"}))


class Batch(BaseModel):
    """Several facts; either all are recorded or none."""

    model_config = ConfigDict(extra="forbid", strict=True)

    edits: list[EditIn]
    wait: bool = False


class FailureOut(BaseModel):
    """Why an edit failed."""

    code: str
    message: str


class AnswerOut(BaseModel):
    """One answer of the server."""

    answer: str
    begins: bool = Field(description="Whether it begins with target_new.")


class AnswersOut(BaseModel):
    """What the server answered to the prompt of an edit, greedy and asked alone."""

    variant: str = Field(description="The variant that was asked.")
    revision: int = Field(description="The ledger's revision that was in effect.")
    bare: AnswerOut | None = Field(description="The completion of the prompt.")
    chat: AnswerOut | None = Field(
        description="The answer to the prompt as a user's message; null without a chat template."
    )
    refused: str | None = Field(description="Why there is no answer, if there is none.")


class NeuronOut(BaseModel):
    """An inner neuron of a layer's MLP."""

    layer: int = Field(description="The decoder layer, counted from 0.")
    index: int = Field(description="The neuron in the layer, counted from 0.")
    attribution: float = Field(
        description="What it added to the probability of the old answer, a mean over prompts."
    )


class EditOut(BaseModel):
    """An edit and its state."""

    id: str
    object: Literal["edit"] = "edit"
    status: str
    method: str
    prompt: str
    subject: str
    target_new: str
    ground_truth: str | None
    aliases: list[str]
    user: str | None = Field(description="The only user whose requests it is for, if any.")
    edit_set: str | None = Field(description="The edit set that it belongs to, if any.")
    pause_mode: str | None
    batch: str | None = Field(description="Edits that were computed together have the same batch.")
    superseded_by: str | None = Field(
        description="While it is superseded: the later edit of the same fact."
    )
    revision: int = Field(description="The ledger's revision at the latest change of its status.")
    created_at: float = Field(description="Seconds since the epoch.")
    updated_at: float = Field(description="Seconds since the epoch.")
    error: FailureOut | None = None
    warnings: list[str] = Field(
        description="While it is active: harm that it may have done, alone or with other edits."
    )
    drift: float | None = Field(
        description="For an active weight edit: the mean KL(base || edited) on the control "
        "prompts, in nats, with all edits that were in effect when it was computed."
    )
    neurons: list[NeuronOut] = Field(
        description="For an active edit of a method that names them (kn): the neurons that it "
        "changes, those with the highest attribution first."
    )
    probes: JudgedOut | None = Field(
        description="The probes that it was judged by, and their scores."
    )
    keep: bool = Field(description="Whether it stays in effect even if it is not told.")
    told: bool | None = Field(
        description="While it is active, or if it failed: whether the server, asked its prompt as "
        "a completion, begins its answer with target_new; null if it was not asked."
    )
    answers: AnswersOut | None = Field(
        description="What the server answered when it was last asked; null if it was not."
    )
    erased: bool = Field(description="Whether its texts were erased; they are empty then.")

    @classmethod
    def of(
        cls,
        edit: Edit,
        warnings: Sequence[str],
        drift: float | None,
        neurons: Sequence[Neuron],
        told: OwnAnswers | None,
    ) -> Self:
        """``told`` is what the server answered last."""
        probes = edit.request.probes
        counts = told is not None and edit.status in (Status.ACTIVE, Status.FAILED)
        fields = {
            **vars(edit.request),
            **vars(edit),
            "told": told.begins if told and counts else None,
            "answers": vars(told) | {"refused": told.refused or None} if told else None,
            "status": edit.status.value,
            "error": edit.failure,
            "warnings": warnings,
            "drift": drift,
            "neurons": neurons,
            "probes": JudgedOut.judged(probes, edit.scores) if probes else None,
        }
        return cls.model_validate(fields, from_attributes=True)


class ErrorDetail(BaseModel):
    """What went wrong, and what to do next."""

    message: str
    type: str
    param: str | None = Field(description="The field at fault, if any.")
    code: str = Field(description="A stable code for programs.")


class ErrorOut(BaseModel):
    """An error in the shape of OpenAI's API."""

    error: ErrorDetail


class EditList(BaseModel):
    """Edits, oldest first."""

    object: Literal["list"] = "list"
    data: list[EditOut]


class ActorOut(BaseModel):
    """Who sent the request that changed something."""

    key: str = Field(description="The name of the key that it sent; empty without one.")
    client: str = Field(description="The address that it came from.")
    request: str = Field(description="Its header X-Request-Id.")


class ChangeOut(BaseModel):
    """One change, as the ledger has it."""

    object: Literal["edit_change"] = "edit_change"
    revision: int
    at: float = Field(description="Seconds since the epoch.")
    kind: str = Field(description="What was changed: edit, edit_set, split; or erasure.")
    subject: str = Field(description="The id of the edit, or the name of the edit set.")
    status: str = Field(description="The state that it has entered.")
    actor: ActorOut | None = Field(
        description="Who asked for it; null for what the server did by itself."
    )


class ChangePage(BaseModel):
    """Changes, oldest first."""

    object: Literal["list"] = "list"
    data: list[ChangeOut]
    has_more: bool = Field(description="Whether there are more behind the last one.")


class EditPage(EditList):
    """Edits in the order that was asked for."""

    has_more: bool = Field(description="Whether there are more behind the last one.")


class EditSetIn(BaseModel):
    """A new edit set."""

    model_config = ConfigDict(extra="forbid", strict=True)

    name: str = Field(description="1 to 64 letters, digits, dots, dashes and underscores.")
    owner: str | None = Field(None, description="The tenant whose requests alone see it.")
    probes: SetProbesIn | None = Field(
        None, description="The probes of its edits that have none of their own."
    )


class EditSetPatch(BaseModel):
    """A change of an edit set."""

    model_config = ConfigDict(extra="forbid", strict=True)

    active: bool | None = Field(None, description="Whether default traffic sees it.")
    frozen: bool | None = Field(None, description="Whether edits can neither be added nor removed.")


class EditSetOut(BaseModel):
    """An edit set."""

    name: str
    object: Literal["edit_set"] = "edit_set"
    owner: str | None
    active: bool
    frozen: bool
    probes: ProbesOut | None = Field(
        description="The probes of its edits that have none of their own."
    )
    unavailable: str | None = Field(description="Why requests cannot choose it; null if they can.")
    revision: int = Field(description="The ledger's revision at its latest change.")
    created_at: float = Field(description="Seconds since the epoch.")
    updated_at: float = Field(description="Seconds since the epoch.")

    @classmethod
    def of(cls, edit_set: EditSet, unavailable: str | None) -> Self:
        return cls(**asdict(edit_set), unavailable=unavailable)


class EditSetList(BaseModel):
    """Edit sets, oldest first."""

    object: Literal["list"] = "list"
    data: list[EditSetOut]


class SplitIn(BaseModel):
    """How traffic that does not choose a variant is split."""

    model_config = ConfigDict(extra="forbid")

    weights: dict[str, float] = Field(description="A relative share for each variant.")
    by: str = Field("user", description="What a request is assigned by: user, client or header:X.")


class SplitOut(BaseModel):
    """The split in force."""

    object: Literal["edit_split"] = "edit_split"
    weights: dict[str, float]
    by: str


class RouteIn(BaseModel):
    """A request to route without serving it: a text or a chat."""

    model_config = ConfigDict(extra="forbid", strict=True)

    text: str | None = Field(None, description="The prompt of a completion.")
    messages: list[dict[str, Any]] | None = Field(None, description="The messages of a chat.")
    model: str | None = Field(None, description="The model that the request names.")
    variant: str | None = Field(None, description="The variant that the request chooses.")
    user: str | None = Field(None, description="The user that the request names.")
    edit_hops: bool | None = Field(
        None, description="Whether the question takes several hops, if the request says so."
    )


class RoutedEditOut(BaseModel):
    """An edit that concerns a request."""

    id: str
    score: float = Field(description="The probability that it concerns the request, 0 to 1.")


class RouteOut(BaseModel):
    """How a request would be served."""

    object: Literal["edit_route"] = "edit_route"
    variant: str
    revision: int = Field(description="The ledger's revision in effect.")
    method: str | None = Field(None, description="The method of the edits that concern it, if any.")
    reason: str | None = Field(None, description="Why no edit concerns it, if so.")
    hops: bool = Field(False, description="Whether the model would first take the question apart.")
    edits: list[RoutedEditOut] = Field([], description="The edits used, the most probable first.")
    text: str | None = Field(None, description="The prompt that the model would get.")
    messages: list[dict[str, Any]] | None = Field(
        None, description="The messages that the model would get."
    )
