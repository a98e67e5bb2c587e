"""The figures of a run: medians over rounds, ratios to plain vLLM, and the goals."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.spread import Spread

Measurement = Mapping[str, Any]

CLOSED, OPEN = "closed", "open"
PLAIN = "plain"
THROUGHPUT, TTFT = "output_throughput", "median_ttft_ms"
_RANKED = 10
"""The minimum number of rounds for an interval of their median."""


@dataclass(frozen=True)
class Goal:
    """Limits of an arm as ratios to plain vLLM: minimum throughput and, if any, maximum TTFT."""

    arm: str
    throughput: float
    ttft: float | None = None


GOALS = (
    Goal("no-edits", 0.99, 1.02),
    Goal("merged", 0.99, 1.02),
    Goal("memory-100000-0%", 0.97, 1.05),
    Goal("storm-weight-5", 0.90),
)


def over_rounds(records: Sequence[Measurement], arm: str, loop: str, key: str) -> Spread | None:
    """The values of one key over the rounds. Of a value that is a spread, the median counts."""
    return Spread.of(_value(r.get(key)) for r in _of(records, arm, loop))


def ratio(records: Sequence[Measurement], arm: str, loop: str, key: str) -> Spread | None:
    """Ratios of an arm to plain vLLM in the same round."""
    return Spread.of(_ratios(records, arm, loop, key))


def interval(
    records: Sequence[Measurement], arm: str, loop: str, key: str
) -> tuple[float, float] | None:
    """The 95 % confidence interval of the median ratio; None with fewer than ten rounds.

    By ranks, so it assumes no distribution (Conover, Practical Nonparametric Statistics, section
    3.2, in its normal approximation).
    """
    ratios = sorted(_ratios(records, arm, loop, key))
    count = len(ratios)
    rank = math.floor((count - 1.96 * math.sqrt(count)) / 2)
    return (ratios[rank], ratios[count - 1 - rank]) if count >= _RANKED else None


def _ratios(records: Sequence[Measurement], arm: str, loop: str, key: str) -> list[float]:
    plain = {r["edit_round"]: r[key] for r in _of(records, PLAIN, loop)}
    ours = {r["edit_round"]: r[key] for r in _of(records, arm, loop)}
    return [ours[number] / plain[number] for number in ours if plain.get(number)]


def failed(records: Sequence[Measurement], arm: str) -> int:
    """How many requests of an arm failed, in all rounds."""
    return sum(r["failed"] for r in records if r["edit_arm"] == arm)


def judge_goals(records: Sequence[Measurement]) -> list[dict[str, Any]]:
    """Each goal with the measured values, and whether it is met.

    `throughput` is the ratio of output throughput (closed loop). `ttft` is the ratio of the median
    time to first token (open loop). Both are medians over the rounds, with their `interval`.
    """
    verdicts = []
    for goal in GOALS:
        throughput = ratio(records, goal.arm, CLOSED, THROUGHPUT)
        if throughput is None:
            continue
        ttft = ratio(records, goal.arm, OPEN, TTFT)
        lost = failed(records, goal.arm)
        slow = goal.ttft is not None and (ttft is None or ttft.median > goal.ttft)
        verdicts.append(
            {
                "arm": goal.arm,
                "throughput_at_least": goal.throughput,
                "throughput": throughput.as_json(),
                "throughput_interval": interval(records, goal.arm, CLOSED, THROUGHPUT),
                "ttft_at_most": goal.ttft,
                "ttft": ttft.as_json() if ttft else None,
                "ttft_interval": interval(records, goal.arm, OPEN, TTFT),
                "failed_requests": lost,
                "met": throughput.median >= goal.throughput and not slow and not lost,
            }
        )
    return verdicts


def rates(records: Sequence[Measurement], arm: str) -> list[float]:
    """The request rates at which an arm was measured in open loop."""
    rates_of_arm = {r["request_rate"] for r in records if r["edit_arm"] == arm}
    return sorted(rate for rate in rates_of_arm if isinstance(rate, float))


def at_rate(records: Sequence[Measurement], arm: str, rate: float, key: str) -> Spread | None:
    """The values of one key at one rate, over the rounds that have that rate."""
    rows = [r for r in records if r["edit_arm"] == arm and r["request_rate"] == rate]
    return Spread.of(r[key] for r in rows)


def _of(records: Sequence[Measurement], arm: str, loop: str) -> list[Measurement]:
    """An arm's records of the load that every arm gets, one per round."""
    first_of_round: dict[int, Measurement] = {}
    for record in records:
        if record["edit_arm"] == arm and record["edit_loop"] == loop:
            # In a round, the load of every arm comes before those at other rates.
            first_of_round.setdefault(record["edit_round"], record)
    return list(first_of_round.values())


def _value(value: Any) -> float | None:
    number: float | None = value["median"] if isinstance(value, Mapping) else value
    return number
