"""What an edit is to be judged by, and what came of it."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Self


@dataclass(frozen=True)
class Probes:
    """Prompts to ask about an edit, and the least share of them to be answered as they should.

    ``rephrasings`` should be answered with the edit's new target, ``unchanged`` as before the
    edit. With ``made`` there are prompts made for it besides. ``reliability`` is of the edit's own
    prompt, ``generalization`` of rephrasings, ``locality`` of what should not change.
    """

    rephrasings: tuple[str, ...] = ()
    unchanged: tuple[str, ...] = ()
    made: bool = False
    reliability: float = 1.0
    generalization: float = 0.5
    locality: float = 0.9

    @classmethod
    def from_json(
        cls, rephrasings: Sequence[str] = (), unchanged: Sequence[str] = (), **fields: Any
    ) -> Self:
        """From JSON, which has lists only."""
        return cls(tuple(rephrasings), tuple(unchanged), **fields)


@dataclass(frozen=True)
class Score:
    """The share of prompts of one kind that were answered as they should be.

    ``measure`` is reliability, generalization or locality; ``made`` says whether the prompts were
    made or came with the edit.
    """

    measure: str
    made: bool
    asked: int
    value: float
    threshold: float

    @property
    def passed(self) -> bool:
        return self.value >= self.threshold


Scores = Mapping[str, Sequence[Score]]
"""By the id of an edit."""


def scores_to_json(scores: Sequence[Score]) -> list[dict[str, Any]]:
    """The scores as JSON values."""
    return [asdict(score) for score in scores]
