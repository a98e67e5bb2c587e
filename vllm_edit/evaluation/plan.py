"""What a run is made of."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from vllm_edit.domain.errors import InvalidData

SINGLE = "single"
BATCH = "batch"
SEQUENTIAL = "sequential"
REGIMES = (SINGLE, BATCH, SEQUENTIAL)

AFTER = "right after"
END = "at the end"


@dataclass(frozen=True)
class EvaluationPlan:
    """What is judged: every method on the same edits, in every regime.

    `counts` are the sizes of batches and the lengths of the sequence at which it is judged.
    `fluency` has text sampled, which takes longer than all the rest.
    """

    source: str
    methods: tuple[str, ...]
    regimes: tuple[str, ...]
    counts: tuple[int, ...]
    edits: int
    seed: int
    fluency: bool = False

    def __post_init__(self) -> None:
        if not self.methods or not self.regimes:
            raise InvalidData("Name a method and a regime at least.", field="methods")
        if unknown := set(self.regimes) - set(REGIMES):
            raise InvalidData(
                f"There is no regime {min(unknown)!r}; there are {', '.join(REGIMES)}.",
                field="regimes",
            )
        if self.edits < 1 or any(not 1 <= count <= self.edits for count in self.counts):
            raise InvalidData(
                f"Counts are between 1 and the number of edits, {self.edits}.", field="counts"
            )

    def jobs(self, method: str) -> Iterator["Job"]:
        """The method's jobs, in the order in which they are done."""
        if SINGLE in self.regimes:
            for index in range(self.edits):
                yield Job(method, SINGLE, 1, index)
        if BATCH in self.regimes:
            # A batch of one is what the single regime has.
            for count in (c for c in self.counts if c > 1 or SINGLE not in self.regimes):
                for index in range(self.edits // count):
                    yield Job(method, BATCH, count, index)
        if SEQUENTIAL in self.regimes:
            yield Job(method, SEQUENTIAL, max(self.counts, default=self.edits), 0)

    def described(self) -> dict[str, Any]:
        """As JSON."""
        return {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in asdict(self).items()
        }


@dataclass(frozen=True)
class Job:
    """Edits that are in effect together: the `index`-th `count` of a run's.

    A sequence is one job: it cannot be taken up in its middle.
    """

    method: str
    regime: str
    count: int
    index: int

    def of(self, items: Sequence[Any]) -> Sequence[Any]:
        """Its part of the run's records."""
        start = self.index * self.count
        return items[start : start + self.count]

    @property
    def key(self) -> str:
        return f"{self.method} {self.regime} {self.count} {self.index}"


@dataclass(frozen=True)
class JobResult:
    """What one job found at one moment: `judged` when `count` edits were in effect.

    `seconds` are of the edits that came since the piece before. `drift` is the mean KL divergence
    on the control prompts and `fluency` the mean n-gram entropy, where measured.
    """

    method: str
    regime: str
    count: int
    index: int
    moment: str
    seconds: tuple[float, ...]
    failures: tuple[str, ...]
    judged: tuple[Mapping[str, Any], ...]
    drift: float | None = None
    fluency: float | None = None
