"""The median and the extremes of repeated measurements."""

import statistics
from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Spread:
    """The median, the smallest and the largest of some values."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Iterable[float | None]) -> "Spread | None":
        """The spread of the values that are not None; None without any."""
        measured = [value for value in values if value is not None]
        return cls(statistics.median(measured), min(measured), max(measured)) if measured else None

    def as_json(self) -> dict[str, float]:
        return {"median": self.median, "min": self.low, "max": self.high}


def spread(values: Iterable[float]) -> dict[str, float] | None:
    """The spread of the values as part of a result file; None without values."""
    measured = Spread.of(values)
    return measured.as_json() if measured else None
