"""Rounds made into one figure each: medians, extremes, ratios to plain vLLM, and the targets."""

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Measurement = Mapping[str, Any]

CLOSED, OPEN = "closed", "open"
PLAIN = "plain"
THROUGHPUT, TTFT = "output_throughput", "median_ttft_ms"
_RANKED = 10
"""Rounds from which on ranks say where a median lies."""


@dataclass(frozen=True)
class Goal:
    """What an arm is held to, as ratios to plain vLLM; None where there is none."""

    arm: str
    throughput: float
    ttft: float | None = None


GOALS = (
    Goal("no-edits", 0.99, 1.02),
    Goal("merged", 0.99, 1.02),
    Goal("memory-100000-0%", 0.97, 1.05),
    Goal("storm-weight-5", 0.90),
)


@dataclass(frozen=True)
class Spread:
    """A median over rounds with the least and the greatest."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Iterable[float | None]) -> "Spread | None":
        """None of nothing."""
        found = [value for value in values if value is not None]
        return cls(statistics.median(found), min(found), max(found)) if found else None

    def told(self) -> dict[str, float]:
        return {"median": self.median, "min": self.low, "max": self.high}


def figure(records: Sequence[Measurement], arm: str, loop: str, key: str) -> Spread | None:
    """Of one key over the rounds; of spreads (as `edit_visible_ms`), their medians."""
    return Spread.of(_value(r.get(key)) for r in _of(records, arm, loop))


def ratio(records: Sequence[Measurement], arm: str, loop: str, key: str) -> Spread | None:
    """Of an arm to plain vLLM, each round's own."""
    return Spread.of(_ratios(records, arm, loop, key))


def interval(
    records: Sequence[Measurement], arm: str, loop: str, key: str
) -> tuple[float, float] | None:
    """Where the median of an arm's ratios lies with a confidence of 95 %; None of few rounds.

    By ranks, so whatever the ratios' distribution (Conover, Practical Nonparametric Statistics,
    section 3.2, in its normal approximation).
    """
    found = sorted(_ratios(records, arm, loop, key))
    count = len(found)
    rank = math.floor((count - 1.96 * math.sqrt(count)) / 2)
    return (found[rank], found[count - 1 - rank]) if count >= _RANKED else None


def _ratios(records: Sequence[Measurement], arm: str, loop: str, key: str) -> list[float]:
    plain = {r["edit_round"]: r[key] for r in _of(records, PLAIN, loop)}
    ours = {r["edit_round"]: r[key] for r in _of(records, arm, loop)}
    return [ours[number] / plain[number] for number in ours if plain.get(number)]


def failed(records: Sequence[Measurement], arm: str) -> int:
    """Requests of an arm that were not answered, in all rounds."""
    return sum(r["failed"] for r in records if r["edit_arm"] == arm)


def judged(records: Sequence[Measurement]) -> list[dict[str, Any]]:
    """Each target, what was measured and whether it is met.

    ``throughput`` is the ratio of output throughput (closed loop), ``ttft`` that of the median
    time to the first token (open loop): medians over the rounds of each round's ratio, with the
    `interval` of each.
    """
    found = []
    for target in GOALS:
        throughput = ratio(records, target.arm, CLOSED, THROUGHPUT)
        if throughput is None:
            continue
        ttft = ratio(records, target.arm, OPEN, TTFT)
        lost = failed(records, target.arm)
        slow = target.ttft is not None and (ttft is None or ttft.median > target.ttft)
        found.append(
            {
                "arm": target.arm,
                "throughput_at_least": target.throughput,
                "throughput": throughput.told(),
                "throughput_interval": interval(records, target.arm, CLOSED, THROUGHPUT),
                "ttft_at_most": target.ttft,
                "ttft": ttft.told() if ttft else None,
                "ttft_interval": interval(records, target.arm, OPEN, TTFT),
                "failed_requests": lost,
                "met": throughput.median >= target.throughput and not slow and not lost,
            }
        )
    return found


def rates(records: Sequence[Measurement], arm: str) -> list[float]:
    """At which an arm was asked in open loop."""
    found = {r["request_rate"] for r in records if r["edit_arm"] == arm}
    return sorted(rate for rate in found if isinstance(rate, float))


def at_rate(records: Sequence[Measurement], arm: str, rate: float, key: str) -> Spread | None:
    """Of one key at one rate, over the rounds that have it."""
    rows = [r for r in records if r["edit_arm"] == arm and r["request_rate"] == rate]
    return Spread.of(r[key] for r in rows)


def _of(records: Sequence[Measurement], arm: str, loop: str) -> list[Measurement]:
    """An arm's records of the loads that every arm gets."""
    found: dict[int, Measurement] = {}
    for record in records:
        if record["edit_arm"] == arm and record["edit_loop"] == loop:
            # Those of the sweep come after.
            found.setdefault(record["edit_round"], record)
    return list(found.values())


def _value(value: Any) -> float | None:
    found: float | None = value["median"] if isinstance(value, Mapping) else value
    return found
