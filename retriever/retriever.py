"""The retriever: which facts concern a request, and what to serve instead of it."""

import threading
from collections.abc import Iterable

from retriever.decision import Decision, Decompose, Delegate, Messages, Pass, Rewrite
from retriever.encoder import ENCODED, Encoder
from retriever.errors import InvalidFactError
from retriever.fact import Fact, check_fact, check_names
from retriever.ike.demonstrations import Demonstration, DemonstrationStore
from retriever.ike.editor import CountTokens, Ike, guess_tokens
from retriever.ike.prompt import user_turns
from retriever.memory import Memory
from retriever.parsed_request import ContextShare, ParsedRequest
from retriever.scope import Classifier, shipped_classifier
from retriever.scope.scope_decision import Hits, Needs
from retriever.settings import RetrieverSettings
from retriever.text import is_question

QUICK = 4000
"""Up to this many bytes, a search for names is faster than a change of thread."""


class Retriever:
    """Facts in memory, and the decision which of them a request needs. Thread-safe.

    Every change takes effect at once and completely: a decision is made on one state of the memory.
    Of facts with the same prompt and subject the newest wins until it is removed.
    """

    def __init__(
        self,
        encoder: Encoder,
        demonstrations: Iterable[Demonstration] = (),
        settings: RetrieverSettings | None = None,
        classifier: Classifier | None = None,
        count_tokens: CountTokens = guess_tokens,
        fact_encoder: Encoder | None = None,
    ) -> None:
        """The shipped classifier decides on scope, unless another is given.

        ``fact_encoder`` gives the same vectors as ``encoder``; it may read them from a store.
        """
        self.settings = settings or RetrieverSettings()
        self._encoder = encoder
        self._fact_encoder = fact_encoder or encoder
        self._classifier = classifier or shipped_classifier()
        store = DemonstrationStore(demonstrations, self._fact_encoder)
        self._count = count_tokens
        self._ike = Ike(store, self.settings.ike, count_tokens)
        self._memory = Memory()
        self._hopping: set[str] = set()
        self._lock = threading.Lock()

    def empty_copy(self) -> "Retriever":
        """An empty retriever that shares the models, the demonstrations and the settings."""
        other = Retriever(
            self._encoder,
            settings=self.settings,
            classifier=self._classifier,
            fact_encoder=self._fact_encoder,
        )
        other._count, other._ike = self._count, self._ike
        return other

    def __len__(self) -> int:
        """Facts stored, those not in effect included."""
        with self._lock:
            return len(self._memory)

    def warm_up(self) -> None:
        """Load the models and encode the demonstrations now, not at the first fact.

        Raises `EncoderUnavailableError` or `InvalidClassifierError`.
        """
        self._encoder.encode(["warm up"])
        self._classifier.scores([("warm up", "warm up")])
        self._ike.load()

    def check(self, fact: Fact) -> None:
        """Raise `InvalidFactError` or `DuplicateFactError` as `add` would; change nothing.

        Refused, too, is a fact that is too long ever to stand in front of a request, and a name
        of so many words that looking for it takes long.
        """
        check_fact(fact, self.settings.limits)
        check_names(fact)
        most = self._ike.max_tokens
        if (tokens := self._ike.least_tokens(fact)) > most:
            raise InvalidFactError(
                "too_long",
                "target_new",
                f"In front of a request the fact would take {tokens} tokens, and there is room for "
                f"{most}; shorten its prompt or its target.",
            )
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
            vectors = self._fact_encoder.encode([fact.prompt for fact in facts])
            with self._lock:
                self._memory.add(facts, vectors)
                self._hopping |= {fact.id for fact in facts if fact.method == "mello"}

    def remove(self, fact_id: str) -> None:
        """Forget a fact. Raises `UnknownFactError`."""
        with self._lock:
            self._memory.remove(fact_id)
            self._hopping.discard(fact_id)

    def parse(self, request: str | Messages, context: ContextShare | None = None) -> ParsedRequest:
        """Parse a request once, for several calls of the methods below.

        Demonstrations, then facts give way to what the request takes of the context.
        """
        return ParsedRequest(request, self.settings, context)

    def route(self, request: str | Messages | ParsedRequest, hops: bool | None = None) -> Decision:
        """Decide on a text, or on the last user turn of a chat given the turns before it.

        The method of the best fact in scope applies; facts of other methods are left out. `hops`
        says whether the request is a multi-hop question; None leaves that to `MelloSettings`.
        The request is not changed. No model is called unless it may name a fact.
        """
        parsed = self._parsed(request)
        if hops and self._hopping and parsed.question.strip():
            return Decompose(parsed.question)
        decision = self.route_without_hops(parsed)
        if isinstance(decision, Pass) and hops is None and self._may_hop(parsed):
            return Decompose(parsed.question)
        return decision

    def quick_pass(self, request: str | Messages | ParsedRequest) -> Pass | None:
        """The Pass of `route`, if it can be decided quickly and without a model; else None."""
        parsed = self._parsed(request)
        if self._hopping or parsed.longer_than(QUICK):
            return None
        if not self._lock.acquire(blocking=False):
            return None
        try:
            if nothing := _nothing_to_search(parsed, len(self._memory)):
                return nothing
            decision = parsed.scope.decide(self._memory)
        finally:
            self._lock.release()
        if isinstance(decision, Needs):
            parsed.needs = decision
        return decision if isinstance(decision, Pass) else None

    def route_without_hops(
        self, request: str | Messages | ParsedRequest
    ) -> Pass | Rewrite | Delegate:
        """`route` for a request that is not a multi-hop question."""
        parsed = self._parsed(request)
        hits = self._in_scope(parsed)
        if isinstance(hits, Pass):
            return hits
        return self._with_facts(with_best_method(hits), parsed)

    def facts_in_scope(self, question: str) -> Hits:
        """The facts in scope of a question, the most probable first."""
        hits = self._in_scope(self.parse(question))
        return [] if isinstance(hits, Pass) else hits

    def put_facts_in_front(
        self, delegate: Delegate, request: str | Messages | ParsedRequest
    ) -> Rewrite | Pass:
        """The request behind the facts of `delegate`, for when no other model can answer it.

        It passes if there is no room for them.
        """
        hits = list(zip(delegate.facts, delegate.scores, strict=True))
        return self._rewrite(hits, self._parsed(request))

    def has_room(self, parsed: ParsedRequest, text: str) -> bool:
        """Whether the text can be put in front of the request, see `parse`."""
        room = parsed.room(self._count, len(text.encode("utf-8", "surrogatepass")))
        return room is None or self._count(text) <= room

    @property
    def encoder(self) -> Encoder:
        """The encoder of requests."""
        return self._encoder

    def _parsed(self, request: str | Messages | ParsedRequest) -> ParsedRequest:
        return request if isinstance(request, ParsedRequest) else self.parse(request)

    def _may_hop(self, parsed: ParsedRequest) -> bool:
        mello = self.settings.mello
        if not self._hopping or mello.questions == "asked":
            return False
        if not is_question(parsed.question, mello.max_question):
            return False
        if mello.questions == "all":
            return True
        with self._lock:
            named = self._memory.mentions(parsed.scope.turns[-1].words)
            facts = [fact for name in named for fact in self._memory.facts_named(name)]
        return any(fact.method == "mello" for fact in facts)

    def _with_facts(self, hits: Hits, request: ParsedRequest) -> Rewrite | Delegate | Pass:
        if hits[0][0].method != "serac":
            return self._rewrite(hits, request)
        ids, scores = tuple(fact.id for fact, _ in hits), tuple(score for _, score in hits)
        return Delegate(ids, scores, "serac", tuple(fact for fact, _ in hits))

    def _rewrite(self, hits: Hits, parsed: ParsedRequest) -> Rewrite | Pass:
        facts, text, messages = [fact for fact, _ in hits], None, None
        room = parsed.room(self._count, self._ike.max_tokens)
        request = parsed.content
        if isinstance(request, str):
            text, used = self._ike.in_text(facts, request, room)
        else:
            messages, used = self._ike.in_chat(facts, request, user_turns(request)[-1], room)
        if not used:
            return Pass("no_room")
        ids = tuple(fact.id for fact in facts[:used])
        scores = tuple(score for _, score in hits[:used])
        return Rewrite(ids, scores, facts[0].method, text, messages)

    def _in_scope(self, parsed: ParsedRequest) -> Pass | Hits:
        if nothing := _nothing_to_search(parsed, len(self)):
            return nothing
        # The models run outside the lock. If the memory changed meanwhile and the decision now
        # needs more results, they run again: a decision is made on one state of the memory.
        while True:
            self._ask_models(parsed)
            with self._lock:
                decision = parsed.scope.decide(self._memory)
            if not isinstance(decision, Needs):
                return decision
            parsed.needs = decision

    def _ask_models(self, parsed: ParsedRequest) -> None:
        scope, needs = parsed.scope, parsed.needs
        if needs.vector:
            scope.vector = self._encoder.encode([scope.turns[-1].text[-ENCODED:]])
        if needs.inputs:
            scores = self._classifier.scores(needs.inputs)
            scope.scores.update(zip(needs.inputs, scores, strict=True))
        parsed.needs = Needs()


def _nothing_to_search(parsed: ParsedRequest, stored: int) -> Pass | None:
    if not stored:
        return Pass("empty_memory")
    return None if parsed.question.strip() else Pass("no_text")


def with_best_method(hits: Hits) -> Hits:
    """The hits whose facts have the method of the best hit."""
    return [(fact, score) for fact, score in hits if fact.method == hits[0][0].method]
