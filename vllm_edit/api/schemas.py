"""What /v1/edits reads and writes."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field

from retriever import FactLimits
from vllm_edit.api.probe_schemas import JudgedOut, ProbesIn, ProbesOut, SetProbesIn
from vllm_edit.domain.edit import Edit, EditRequest
from vllm_edit.domain.edit_set import EditSet

MAX_ALIASES = FactLimits().aliases
"""Of one edit."""


class EditIn(BaseModel):
    """One fact to correct."""

    model_config = ConfigDict(extra="forbid", strict=True)

    method: str = Field(description="How it takes effect, for example ike or rome.")
    prompt: str = Field(description="A text that the new answer continues; contains the subject.")
    subject: str = Field(description="What the fact is about, exactly as written in the prompt.")
    target_new: str = Field(description="The right answer.")
    ground_truth: str | None = Field(None, description="The answer given so far, if known.")
    aliases: list[str] = Field(
        [], max_length=MAX_ALIASES, description="Other names of the subject, for memory edits."
    )
    user: str | None = Field(
        None, description="With memprompt: the only user, as requests name it, that it is for."
    )
    edit_set: str | None = Field(None, description="The set that it belongs to, if to one.")
    pause_mode: Literal["keep", "wait", "abort"] | None = Field(
        None, description="What its swaps do with running requests, if not as for other edits."
    )
    probes: ProbesIn | None = Field(
        None, description="What it is judged by; without, what its set's edits are."
    )
    wait: bool = Field(False, description="Answer when the edit is active or has failed.")

    def request(self) -> EditRequest:
        return EditRequest(
            self.method,
            self.prompt,
            self.subject,
            self.target_new,
            self.ground_truth,
            self.edit_set,
            self.pause_mode,
            tuple(self.aliases),
            self.user,
            None if self.probes is None else self.probes.probes(),
        )


class Batch(BaseModel):
    """Several facts, recorded all or none."""

    model_config = ConfigDict(extra="forbid", strict=True)

    edits: list[EditIn]
    wait: bool = False


class FailureOut(BaseModel):
    """Why an edit failed."""

    code: str
    message: str


class EditOut(BaseModel):
    """An edit and what became of it."""

    id: str
    object: Literal["edit"] = "edit"
    status: str
    method: str
    prompt: str
    subject: str
    target_new: str
    ground_truth: str | None
    aliases: list[str]
    user: str | None = Field(description="The only user that it is for, if for one.")
    edit_set: str | None = Field(description="The set that it belongs to, if to one.")
    pause_mode: str | None
    batch: str | None = Field(description="The same for edits that were computed together.")
    superseded_by: str | None = Field(description="While superseded: the later edit of the fact.")
    revision: int = Field(description="The ledger's revision of the latest change of status.")
    created_at: float = Field(description="Seconds since the epoch.")
    updated_at: float = Field(description="Seconds since the epoch.")
    error: FailureOut | None = None
    warnings: list[str] = Field(description="While active: what it, with others, may have cost.")
    drift: float | None = Field(
        description="While active, of a weight edit: mean KL(base || edited) on the control "
        "prompts, in nats, with all edits that were in effect when it was computed."
    )
    probes: JudgedOut | None = Field(description="What it was judged by, and the scores.")

    @classmethod
    def of(cls, edit: Edit, warnings: Sequence[str], drift: float | None) -> Self:
        failure, probes = edit.failure, edit.request.probes
        return cls(
            id=edit.id,
            status=edit.status.value,
            method=edit.request.method,
            prompt=edit.request.prompt,
            subject=edit.request.subject,
            target_new=edit.request.target_new,
            ground_truth=edit.request.ground_truth,
            aliases=list(edit.request.aliases),
            user=edit.request.user,
            edit_set=edit.request.edit_set,
            pause_mode=edit.request.pause_mode,
            batch=edit.batch,
            superseded_by=edit.superseded_by,
            revision=edit.revision,
            created_at=edit.created_at,
            updated_at=edit.updated_at,
            error=FailureOut(code=failure.code, message=failure.message) if failure else None,
            warnings=list(warnings),
            drift=drift,
            probes=JudgedOut.judged(probes, edit.scores) if probes else None,
        )


class ErrorDetail(BaseModel):
    """What went wrong and what to do next."""

    message: str
    type: str
    param: str | None = Field(description="The field at fault, if one is.")
    code: str = Field(description="A stable word for programs.")


class ErrorOut(BaseModel):
    """An error in the shape of OpenAI's API."""

    error: ErrorDetail


class EditList(BaseModel):
    """Edits, oldest first."""

    object: Literal["list"] = "list"
    data: list[EditOut]


class EditSetIn(BaseModel):
    """A new edit set."""

    model_config = ConfigDict(extra="forbid", strict=True)

    name: str = Field(description="1 to 64 letters, digits, dots, dashes and underscores.")
    owner: str | None = Field(None, description="The only tenant whose requests see it.")
    probes: SetProbesIn | None = Field(
        None, description="What those of its edits are judged by that bring no probes."
    )


class EditSetPatch(BaseModel):
    """What is to change of an edit set."""

    model_config = ConfigDict(extra="forbid", strict=True)

    active: bool | None = Field(None, description="Whether default traffic sees it.")
    frozen: bool | None = Field(None, description="Whether no edit may join or leave it.")


class EditSetOut(BaseModel):
    """An edit set."""

    name: str
    object: Literal["edit_set"] = "edit_set"
    owner: str | None
    active: bool
    frozen: bool
    probes: ProbesOut | None = Field(description="Those of its edits that bring none.")
    unavailable: str | None = Field(description="Why requests cannot choose it, if they cannot.")
    revision: int = Field(description="The ledger's revision of its latest change.")
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
    """How traffic that does not choose is split."""

    model_config = ConfigDict(extra="forbid")

    weights: dict[str, float] = Field(description="A share for each variant.")
    by: str = Field("user", description="What requests are told apart by: user, client, header:X.")


class SplitOut(BaseModel):
    """The split in force."""

    object: Literal["edit_split"] = "edit_split"
    weights: dict[str, float]
    by: str


class RouteIn(BaseModel):
    """A request whose way is to be seen: a text or a chat."""

    model_config = ConfigDict(extra="forbid", strict=True)

    text: str | None = Field(None, description="The prompt of a completion.")
    messages: list[dict[str, Any]] | None = Field(None, description="The messages of a chat.")
    model: str | None = Field(None, description="The model that it would ask for.")
    variant: str | None = Field(None, description="The variant that it would choose.")
    user: str | None = Field(None, description="The user that it would name.")
    edit_hops: bool | None = Field(None, description="Whether it takes several hops, if it says.")


class RoutedEditOut(BaseModel):
    """An edit that concerns a request."""

    id: str
    score: float = Field(description="How surely it does, 0 to 1.")


class RouteOut(BaseModel):
    """What would become of a request."""

    object: Literal["edit_route"] = "edit_route"
    variant: str
    revision: int = Field(description="The ledger's revision of the latest change in effect.")
    method: str | None = Field(None, description="The method of the edits, if any concerns it.")
    reason: str | None = Field(None, description="Why no edit concerns it, if none does.")
    hops: bool = Field(
        False, description="Whether the model would first be asked to take the question apart."
    )
    edits: list[RoutedEditOut] = Field([], description="The edits used, the surest first.")
    text: str | None = Field(None, description="The prompt as the model would get it.")
    messages: list[dict[str, Any]] | None = Field(
        None, description="The messages as the model would get them."
    )
