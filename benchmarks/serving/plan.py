"""How much is measured."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Plan:
    """Sizes of one run; every arm of every round gets the same traffic.

    Each round asks each arm ``closed`` requests with ``concurrency`` of them in flight, for
    throughput, and ``opened`` requests that come at ``rate`` a second whatever the server does,
    for latency. Arms that are swept are also asked at the other ``rates``, in the first round.
    """

    quick: bool
    rounds: int
    closed: int
    concurrency: int
    opened: int
    rate: float
    rates: tuple[float, ...]
    output_tokens: int
    burstiness: float
    many: int
    """Edits of the larger memory."""

    @property
    def sizes(self) -> tuple[int, ...]:
        """Edits in memory."""
        return tuple(sorted({FEW, self.many}))


FEW = 1_000

FULL = Plan(
    quick=False,
    rounds=3,
    closed=200,
    concurrency=8,
    opened=80,
    rate=8.0,
    rates=(2.0, 4.0, 8.0, 16.0),
    output_tokens=32,
    burstiness=1.0,
    many=100_000,
)

QUICK = Plan(
    quick=True,
    rounds=2,
    closed=40,
    concurrency=4,
    opened=16,
    rate=8.0,
    rates=(8.0,),
    output_tokens=16,
    burstiness=1.0,
    many=FEW,
)
