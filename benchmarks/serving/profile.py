"""The time of the parts of a routed request and of a weight edit.

The parts of routing are timed in this process, on an idle machine, with the server's own code. The
times inside vLLM come from the server's /metrics under load.
"""

import itertools
import json
import statistics
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from benchmarks import people
from benchmarks.routing import mixtures
from benchmarks.serving import traffic
from benchmarks.serving.summary import CLOSED, OPEN, over_rounds
from benchmarks.serving.weight_profile import weight_edit
from retriever import IkeSettings, Pass, RetrieverSettings, SentenceEncoder
from retriever.encoder import Vectors
from retriever.fact import Fact
from retriever.ike.demonstrations import DemonstrationStore
from retriever.ike.editor import Ike
from retriever.memory import Memory
from retriever.name_index import Spans
from retriever.scope import shipped_classifier
from retriever.scope.classifier_input import parse_turn
from retriever.scope.scope_decision import Needs, ScopeDecision
from retriever.text import Name, Word
from vllm_edit import factworld
from vllm_edit.request import body

Row = Mapping[str, Any]
REAL = 512
_LAST = 1000
_ABOUT = {
    "parse": "the body read as JSON, words and sentences found",
    "gate": "names of facts looked for among the words",
    "encode": "the sentence encoder reads the request",
    "search": "the facts nearest to it",
    "classify": "the scope classifier reads the request with each candidate",
    "decide": "the rest of the decision",
    "rewrite": "demonstrations chosen, facts put in front, the body written",
    "queue": "vLLM: waiting to be scheduled (mean, under load)",
    "prefill": "vLLM: until the first token (mean, under load)",
    "decode": "vLLM: all further tokens (mean, under load)",
}


class Stopwatch:
    """Seconds by part. A nested part does not count for the outer one."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self._inner = 0.0

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        outer, self._inner = self._inner, 0.0
        start = time.perf_counter()
        try:
            yield
        finally:
            taken = time.perf_counter() - start
            self.seconds[name] += taken - self._inner
            self._inner = outer + taken


class TimedEncoder:
    """An encoder that times its calls as a part."""

    def __init__(self, encoder: SentenceEncoder) -> None:
        self._encoder = encoder
        self.watch = Stopwatch()

    def encode(self, texts: list[str]) -> Vectors:
        with self.watch.part("encode"):
            return self._encoder.encode(texts)


class TimedMemory(Memory):
    """A memory that times the gate and the search as parts."""

    def __init__(self) -> None:
        super().__init__()
        self.watch = Stopwatch()

    def mentions(self, text: Sequence[Word]) -> dict[Name, Spans]:
        with self.watch.part("gate"):
            return super().mentions(text)

    def may_mention(self, text: Sequence[Word]) -> bool:
        with self.watch.part("gate"):
            return super().may_mention(text)

    def nearest(self, vectors: Mapping[Name, Vectors], k: int) -> list[tuple[Fact, float]]:
        with self.watch.part("search"):
            return super().nearest(vectors, k)

    def nearest_of_all(
        self, vectors: Vectors, k: int, *, exact: bool = False
    ) -> list[tuple[Fact, float]]:
        with self.watch.part("search"):
            return super().nearest_of_all(vectors, k, exact=exact)


def profiles(size: int, count: int, records: Sequence[Row]) -> dict[str, list[Row]]:
    """Tables by title. `records` are those of the run."""
    route = _Route(size)
    inside = [people.fact(number * 7 % size).prompt for number in range(count)]
    outside = people.requests(count, 7 * traffic.RESERVED)
    return {
        f"A request that a fact concerns, {size:,} facts in memory": [
            *route.table(inside),
            *_engine(records, f"memory-{size}-100%"),
        ],
        f"A request that no fact concerns, {size:,} facts in memory": [
            *route.table(outside),
            *_engine(records, f"memory-{size}-0%"),
        ],
        "A weight edit (ROME)": [*itertools.starmap(_row, weight_edit()), *_swap(records)],
    }


class _Route:
    """The middleware's work on a request, part by part."""

    def __init__(self, size: int) -> None:
        self._encoder = TimedEncoder(SentenceEncoder(cache_size=0))
        self._classifier = shipped_classifier()
        settings = IkeSettings(demonstrations=2)
        self._settings = RetrieverSettings(threshold=0.3, ike=settings)
        demonstrations = DemonstrationStore(tuple(factworld.demonstrations()), self._encoder)
        self._ike = Ike(demonstrations, settings)
        self._ike.load()
        self._memory = _filled(size, self._encoder)

    def table(self, texts: Sequence[str]) -> list[Row]:
        """Mean time of each part over the texts; a part that a text skips counts as zero."""
        self._one(texts[0])
        measured = [self._one(text) for text in texts]
        parts = [part for part in _ABOUT if any(part in one for one in measured)]
        return [_row(p, 1e3 * statistics.mean(one.get(p, 0.0) for one in measured)) for p in parts]

    def _one(self, text: str) -> Mapping[str, float]:
        watch = self._memory.watch = self._encoder.watch = Stopwatch()
        request = {"model": "factworld", "prompt": traffic.INSTRUCTIONS + text, "max_tokens": 32}
        sent = json.dumps(request).encode()
        with watch.part("parse"):
            parsed = body.parse(sent) or {}
            turn = parse_turn(parsed["prompt"])
        attempt = ScopeDecision((turn,), self._settings)
        while True:
            with watch.part("decide"):
                decision = attempt.decide(self._memory)
            if not isinstance(decision, Needs):
                break
            if decision.vector:
                attempt.vector = self._encoder.encode([turn.text[-_LAST:]])
            if decision.inputs:
                with watch.part("classify"):
                    scores = self._classifier.scores(decision.inputs)
                attempt.scores.update(zip(decision.inputs, scores, strict=True))
        if not isinstance(decision, Pass):
            with watch.part("rewrite"):
                prompt, _ = self._ike.in_text([fact for fact, _ in decision], parsed["prompt"])
                json.dumps({**parsed, "prompt": prompt}).encode()
        return watch.seconds


def _filled(size: int, encoder: TimedEncoder) -> TimedMemory:
    """The first vectors are real, the others are mixtures of these (see `benchmarks.routing`)."""
    real = encoder.encode(people.prompts(min(REAL, size)))
    more = list(mixtures(real, size - len(real), seed=size)) if size > len(real) else []
    memory = TimedMemory()
    memory.add(list(itertools.islice(people.facts(size), size)), np.concatenate([real, *more]))
    memory.settle()
    return memory


def _engine(records: Sequence[Row], arm: str) -> list[Row]:
    parts = ("queue", "prefill", "decode")
    spreads = [(part, over_rounds(records, arm, OPEN, f"edit_{part}_ms")) for part in parts]
    return [_row(part, spread.median) for part, spread in spreads if spread]


def _swap(records: Sequence[Row]) -> list[Row]:
    """The times of a swap, from the storm of weight edits."""
    parts = (
        ("edit_stage_ms", "ship and stage", "sent to the workers, which build the new weights"),
        ("edit_pause_ms", "commit", "requests wait, the weights change, caches are cleared"),
    )
    spreads = [
        (part, over_rounds(records, "storm-weight-5", CLOSED, k), about) for k, part, about in parts
    ]
    return [_row(part, spread.median, about) for part, spread, about in spreads if spread]


def _row(part: str, milliseconds: float, about: str | None = None) -> Row:
    return {"part": part, "ms": milliseconds, "about": about or _ABOUT[part]}
