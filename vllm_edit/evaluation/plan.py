"""The plan of a run, its jobs and their results."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from vllm_edit.domain.errors import InvalidData
from vllm_edit.evaluation.more_questions import KINDS
from vllm_edit.evaluation.question import MAX_TOKENS

SINGLE = "single"
BATCH = "batch"
SEQUENTIAL = "sequential"
REGIMES = (SINGLE, BATCH, SEQUENTIAL)

WRONG = "wrong"
KNOWN = "known"

RETRIEVAL = "plain-retrieval"
FACT_IN_PROMPT = "fact-in-prompt"
ABLATIONS = (RETRIEVAL, FACT_IN_PROMPT)
"""Methods without an edit: what a memory method achieves without its gate, and at best."""

AFTER = "right after"
END = "at the end"


@dataclass(frozen=True)
class EvaluationPlan:
    """What is evaluated: every method on the same edits, in every regime.

    `counts` are the sizes of batches, and the numbers of sequential edits at which all are judged.
    `fluency` samples text, which takes longer than everything else. `ask` names `more_questions`.
    `tokens` is the length of an answer, and `at_once` the number of questions that a server gets
    together. `in_order` takes the first records of the data instead of random ones. `only`:
    records that the unedited model tells wrong, or knows; None for all. `bound`: a sequence has
    collapsed when fewer of its edits are told.
    """

    source: str
    methods: tuple[str, ...]
    regimes: tuple[str, ...]
    counts: tuple[int, ...]
    edits: int
    seed: int
    fluency: bool = False
    ask: tuple[str, ...] = ()
    tokens: int = MAX_TOKENS
    at_once: int = 1
    in_order: bool = False
    only: str | None = None
    bound: float = 0.9

    def __post_init__(self) -> None:
        if not self.methods or not self.regimes:
            raise InvalidData("Name at least one method and one regime.", field="methods")
        if unknown := set(self.regimes) - set(REGIMES):
            raise InvalidData(
                f"There is no regime {min(unknown)!r}; there are {', '.join(REGIMES)}.",
                field="regimes",
            )
        if unknown := set(self.ask) - set(KINDS):
            raise InvalidData(
                f"There is no question {min(unknown)!r}; there are {', '.join(KINDS)}.", field="ask"
            )
        if self.tokens < 1 or self.at_once < 1:
            raise InvalidData("Answers have a token, and one question is asked, at least.")
        if self.edits < 1 or any(not 1 <= count <= self.edits for count in self.counts):
            raise InvalidData(
                f"Counts are between 1 and the number of edits, {self.edits}.", field="counts"
            )

    def jobs(self, method: str) -> Iterator["Job"]:
        """The jobs of a method, in order."""
        if SINGLE in self.regimes or method == FACT_IN_PROMPT:
            for index in range(self.edits):
                yield Job(method, SINGLE, 1, index)
        if method == FACT_IN_PROMPT:
            # Other facts in effect make no difference to it.
            return
        if BATCH in self.regimes:
            # A batch of one is a job of the single regime.
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
    """Edits that are in effect together: the `index`-th group of `count` records.

    A sequence is one job: it cannot be resumed in the middle.
    """

    method: str
    regime: str
    count: int
    index: int

    def of(self, items: Sequence[Any]) -> Sequence[Any]:
        """The job's part of the records of the run."""
        start = self.index * self.count
        return items[start : start + self.count]

    @property
    def key(self) -> str:
        return f"{self.method} {self.regime} {self.count} {self.index}"


@dataclass(frozen=True)
class JobResult:
    """The result of a job at one moment: `judged` while `count` edits were in effect.

    `seconds` has the time of each edit so far. `drift` is the mean KL divergence on the control
    prompts and `fluency` the mean n-gram entropy, if measured.
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
