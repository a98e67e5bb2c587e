"""The retriever: which facts concern a request, and what to serve instead of it."""

import threading
from collections.abc import Iterable

import numpy as np

from retriever.decision import Messages, Pass, Rewrite
from retriever.encoder import Encoder, Vectors
from retriever.fact import Fact, check_fact
from retriever.ike.demonstrations import Demonstration, DemonstrationStore
from retriever.ike.prompt import last_user_turn, preamble, prefix_message, text_of
from retriever.memory import Memory
from retriever.scope import fact_text, windows
from retriever.settings import RetrieverSettings
from retriever.text import Name, normalise, sentence_bounds, words

Hits = list[tuple[Fact, float]]


class Retriever:
    """Facts in memory, and the routing of requests past them. Thread-safe.

    Every change takes effect at once and whole: a decision is made on one state of the memory.
    Of facts with the same prompt and subject the newest wins until it is removed.
    """

    def __init__(
        self,
        encoder: Encoder,
        demonstrations: Iterable[Demonstration] = (),
        settings: RetrieverSettings | None = None,
    ) -> None:
        self.settings = settings or RetrieverSettings()
        self._encoder = encoder
        self._demonstrations = DemonstrationStore(demonstrations, encoder)
        self._memory = Memory()
        self._lock = threading.Lock()

    def sibling(self) -> "Retriever":
        """An empty retriever that shares the encoder, the demonstrations and the settings."""
        other = Retriever(self._encoder, settings=self.settings)
        other._demonstrations = self._demonstrations
        return other

    def __len__(self) -> int:
        """Facts stored, those not in effect included."""
        with self._lock:
            return len(self._memory)

    def warm_up(self) -> None:
        """Load the encoder and encode the demonstrations now, not at the first fact.

        Raises `EncoderUnavailableError`.
        """
        self._encoder.encode(["warm up"])
        self._demonstrations.load()

    def check(self, fact: Fact) -> None:
        """Raise `InvalidFactError` or `DuplicateFactError` where `add` would; change nothing."""
        check_fact(fact, self.settings.limits)
        with self._lock:
            self._memory.check_new([fact])

    def add(self, fact: Fact) -> None:
        """Store a fact, or raise `InvalidFactError` or `DuplicateFactError` and change nothing."""
        self.add_many([fact])

    def add_many(self, facts: Iterable[Fact]) -> None:
        """Store facts, oldest first, in one batch: all of them or, on an error, none."""
        facts = list(facts)
        for fact in facts:
            check_fact(fact, self.settings.limits)
        with self._lock:
            self._memory.check_new(facts)
        if facts:
            vectors = self._encoder.encode([fact_text(fact) for fact in facts])
            with self._lock:
                self._memory.add(facts, vectors)

    def remove(self, fact_id: str) -> None:
        """Forget a fact. Raises `UnknownFactError`."""
        with self._lock:
            self._memory.remove(fact_id)

    def route(self, request: str | Messages) -> Pass | Rewrite:
        """Decide on a text, or on the last user turn of a chat. The request is not changed.

        The encoder is called only when the memory's facts are named in the text.
        """
        if isinstance(request, str):
            found = self._decide(request)
            if isinstance(found, Pass):
                return found
            return _rewrite(found, text=self._preamble(found, request) + request)
        turn = last_user_turn(request)
        if turn is None:
            return Pass("no_text")
        text = text_of(request[turn])
        found = self._decide(text)
        if isinstance(found, Pass):
            return found
        messages = list(request)
        messages[turn] = prefix_message(messages[turn], self._preamble(found, text))
        return _rewrite(found, messages=tuple(messages))

    def _decide(self, text: str) -> Pass | Hits:
        if not len(self):
            return Pass("empty_memory")
        if not text.strip():
            return Pass("no_text")
        plain = normalise(text)
        parts, bounds = words(plain), sentence_bounds(plain)
        known: dict[str, Vectors] = {}
        # Encoding happens outside the lock; if a new name came into memory meanwhile, its
        # windows are encoded too, so that the decision is made on one state.
        while True:
            with self._lock:
                asked = {
                    name: windows(plain, bounds, spans, self.settings.max_windows)
                    for name, spans in self._memory.mentions(parts).items()
                }
                missing = list({w for ws in asked.values() for w in ws} - known.keys())
                if not missing:
                    return self._in_scope(asked, known)
            known.update(zip(missing, self._encoder.encode(missing), strict=True))

    def _in_scope(self, asked: dict[Name, list[str]], known: dict[str, Vectors]) -> Pass | Hits:
        if not asked:
            return Pass("no_subject_named")
        vectors = {name: np.stack([known[w] for w in ws]) for name, ws in asked.items()}
        hits = self._memory.nearest(vectors, self.settings.max_facts)
        least = max(self.settings.threshold, hits[0][1] - self.settings.margin)
        return [hit for hit in hits if hit[1] >= least] or Pass("out_of_scope")

    def _preamble(self, hits: Hits, text: str) -> str:
        best = hits[0][0]
        chosen = self._demonstrations.nearest(best.statement, text, self.settings.demonstrations)
        return preamble(chosen, [fact for fact, _ in reversed(hits)])


def _rewrite(hits: Hits, text: str | None = None, messages: Messages | None = None) -> Rewrite:
    return Rewrite(
        edit_ids=tuple(fact.id for fact, _ in hits),
        scores=tuple(score for _, score in hits),
        method="ike",
        text=text,
        messages=messages,
    )
