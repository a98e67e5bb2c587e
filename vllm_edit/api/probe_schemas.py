"""Probes in the bodies of requests and responses."""

from collections.abc import Sequence
from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field

from vllm_edit.domain.json_values import from_json
from vllm_edit.domain.probe import Probes, Score

MAX_PROBES = 32
"""Most prompts of one kind for one edit."""

_DEFAULT = Probes()

Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]


class SetProbesIn(BaseModel):
    """The probes of those edits of a set that have none of their own."""

    model_config = ConfigDict(extra="forbid", strict=True)

    unchanged: list[str] = Field(
        [], max_length=MAX_PROBES, description="Prompts whose answers must not change."
    )
    made: bool = Field(
        _DEFAULT.made, description="Whether the server makes more prompts of both kinds."
    )
    reliability: Share = Field(
        _DEFAULT.reliability,
        description="Smallest share of right answers to the edit's own prompt.",
    )
    generalization: Share = Field(
        _DEFAULT.generalization, description="Smallest share of right answers to rephrasings."
    )
    locality: Share = Field(
        _DEFAULT.locality, description="Smallest share of answers that do not change."
    )
    exact: bool = Field(
        _DEFAULT.exact,
        description="Whether a right answer must end behind target_new, at a punctuation mark; "
        "else it must begin with it.",
    )

    def probes(self) -> Probes:
        return from_json(Probes, self.model_dump())


class ProbesIn(SetProbesIn):
    """What an edit must pass to become active; it is taken back if a share is too small."""

    rephrasings: list[str] = Field(
        [], max_length=MAX_PROBES, description="Prompts whose answer must become target_new."
    )


class ScoreOut(BaseModel):
    """The score of the probes of one kind."""

    measure: str = Field(description="reliability, generalization or locality.")
    made: bool = Field(description="Whether the server made the prompts.")
    asked: int = Field(description="The number of prompts that count.")
    value: float = Field(description="The share with the right answer.")
    threshold: float
    unsteady: int = Field(
        description="Further prompts, which do not count: asked twice before the edit, they were "
        "answered in two ways."
    )


class ProbesOut(BaseModel):
    """The probes of an edit or of an edit set."""

    rephrasings: list[str]
    unchanged: list[str]
    made: bool
    reliability: float
    generalization: float
    locality: float
    exact: bool

    @classmethod
    def of(cls, probes: Probes) -> Self:
        return cls.model_validate(probes, from_attributes=True)


class JudgedOut(ProbesOut):
    """The probes of an edit, and their scores once it was judged."""

    scores: list[ScoreOut]

    @classmethod
    def judged(cls, probes: Probes, scores: Sequence[Score]) -> Self:
        values = vars(probes) | {"scores": scores}
        return cls.model_validate(values, from_attributes=True)
