"""What /v1/edits and /v1/edit-sets read and write of probes."""

from collections.abc import Sequence
from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field

from vllm_edit.domain.probe import Probes, Score, scores_to_json

MAX_PROBES = 32
"""Of one kind, of one edit."""

_DEFAULT = Probes()

Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]


class SetProbesIn(BaseModel):
    """What the edits of a set are judged by that bring no probes."""

    model_config = ConfigDict(extra="forbid", strict=True)

    unchanged: list[str] = Field(
        [], max_length=MAX_PROBES, description="Prompts that should be answered as before."
    )
    made: bool = Field(_DEFAULT.made, description="Whether to make more of both kinds.")
    reliability: Share = Field(
        _DEFAULT.reliability, description="Least share of right answers to the edit's own prompt."
    )
    generalization: Share = Field(
        _DEFAULT.generalization, description="Least share of right answers to rephrasings."
    )
    locality: Share = Field(
        _DEFAULT.locality, description="Least share of answers that stay as they were."
    )

    def probes(self) -> Probes:
        return Probes.from_json(**self.model_dump())


class ProbesIn(SetProbesIn):
    """What an edit is judged by before it is active; below a share it is taken back."""

    rephrasings: list[str] = Field(
        [], max_length=MAX_PROBES, description="Prompts that should be answered with target_new."
    )


class ScoreOut(BaseModel):
    """What came of probes of one kind."""

    measure: str = Field(description="reliability, generalization or locality.")
    made: bool = Field(description="Whether the prompts were made.")
    asked: int = Field(description="How many prompts.")
    value: float = Field(description="The share that was answered as it should be.")
    threshold: float


class ProbesOut(BaseModel):
    """What an edit, or an edit of a set, is judged by."""

    rephrasings: list[str]
    unchanged: list[str]
    made: bool
    reliability: float
    generalization: float
    locality: float

    @classmethod
    def of(cls, probes: Probes) -> Self:
        return cls.model_validate(probes, from_attributes=True)


class JudgedOut(ProbesOut):
    """The same and what came of it, once the probes were asked."""

    scores: list[ScoreOut]

    @classmethod
    def judged(cls, probes: Probes, scores: Sequence[Score]) -> Self:
        return cls.model_validate({**vars(probes), "scores": scores_to_json(scores)})
