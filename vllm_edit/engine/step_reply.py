"""What a worker answers to a step of a swap, as plain data."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class StepReply:
    """The answer of one rank.

    ``step`` and ``number`` repeat the call, so that an answer to another call is noticed.
    ``fault`` says why the step failed, or is None. ``ready`` is false while the rank is still
    building; ``placed`` holds the parameters that it serves a part of.
    """

    step: str
    number: int
    fault: str | None = None
    ready: bool = True
    placed: Sequence[str] = ()

    def to_wire(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_wire(cls, data: Mapping[str, Any]) -> "StepReply":
        """Raises TypeError when the data is no reply."""
        return cls(**data)
