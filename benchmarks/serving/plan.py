"""The sizes of a run."""

from dataclasses import dataclass, replace


@dataclass(frozen=True)
class ServingPlan:
    """Sizes of one run. Every arm of every round gets the same traffic.

    In each round each arm gets `closed` requests with `concurrency` in flight, for throughput, and
    `opened` requests at `rate` per second, for latency. In the first round, swept arms are also
    measured at the other `rates`. The profile uses `profiled` requests. `arms` are the default
    arms; empty means all.
    """

    name: str
    rounds: int
    closed: int
    concurrency: int
    opened: int
    rate: float
    rates: tuple[float, ...]
    output_tokens: int
    burstiness: float
    many: int
    """Edits in the larger memory."""
    profiled: int
    arms: tuple[str, ...] = ()

    @property
    def sizes(self) -> tuple[int, ...]:
        """Edits in memory."""
        return tuple(sorted({FEW, self.many}))


FEW = 1_000

FULL = ServingPlan(
    name="full",
    rounds=3,
    closed=200,
    concurrency=8,
    opened=80,
    rate=8.0,
    rates=(2.0, 4.0, 8.0, 16.0),
    output_tokens=32,
    burstiness=1.0,
    many=100_000,
    profiled=100,
)

TURNS = replace(
    FULL,
    name="turns",
    rounds=60,
    closed=24,
    opened=8,
    rates=(FULL.rate,),
    profiled=0,
    arms=("no-edits", "merged", f"memory-{FULL.many}-0%"),
)
"""Short rounds: other load on the machine affects all arms of a round alike."""

QUICK = ServingPlan(
    name="quick",
    rounds=2,
    closed=40,
    concurrency=4,
    opened=16,
    rate=8.0,
    rates=(8.0,),
    output_tokens=16,
    burstiness=1.0,
    many=FEW,
    profiled=20,
    arms=(
        "no-edits",
        *(f"memory-{FEW}-{scoped}%" for scoped in (0, 10, 100)),
        "merged",
        *(f"storm-{kind}-5" for kind in ("memory", "weight", "swap")),
    ),
)
