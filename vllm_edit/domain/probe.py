"""What an edit is judged by, and the results."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Probes:
    """Prompts that judge an edit, and the smallest share of them that must pass.

    ``rephrasings`` must be answered with the edit's target, ``unchanged`` as before the edit.
    With ``made`` the server adds prompts of its own. ``reliability`` is the threshold for the
    edit's own prompt, ``generalization`` for rephrasings, ``locality`` for what must not change.
    An answer begins with the target; with ``exact`` it also ends there, at a punctuation mark.
    """

    rephrasings: tuple[str, ...] = ()
    unchanged: tuple[str, ...] = ()
    made: bool = False
    reliability: float = 1.0
    generalization: float = 0.5
    locality: float = 0.9
    exact: bool = False

    def as_json(self) -> dict[str, Any]:
        """As the ledger keeps it. Versions without ``exact`` read those that do not use it."""
        fields = asdict(self)
        if not self.exact:
            del fields["exact"]
        return fields


@dataclass(frozen=True)
class Score:
    """The share of prompts of one kind that passed.

    ``measure`` is reliability, generalization or locality; ``made`` says whether the server made
    the prompts or they came with the edit. ``asked`` are the prompts that count; ``unsteady`` ones,
    which were answered in two ways before the edit, do not.
    """

    measure: str
    made: bool
    asked: int
    value: float
    threshold: float
    unsteady: int = 0

    @property
    def passed(self) -> bool:
        return self.value >= self.threshold


Scores = Mapping[str, Sequence[Score]]
"""By the id of an edit."""
