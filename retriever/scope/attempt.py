"""One decision about one conversation, tried until the models have said all that it needs."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from retriever.decision import Pass
from retriever.encoder import Vectors
from retriever.fact import Fact
from retriever.memory import Memory
from retriever.scope.candidates import Candidate, named, nearest
from retriever.scope.reading import Turn
from retriever.settings import RetrieverSettings

Hits = list[tuple[Fact, float]]
Reading = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Needs:
    """What the models have to be asked before the decision can be made."""

    vector: bool = False
    """What the encoder makes of the last turn."""
    readings: list[Reading] = field(default_factory=list)
    """What the classifier is to read."""


@dataclass(slots=True)
class Attempt:
    """`turns` are the user turns, the last one the request; the rest is what the models said."""

    turns: tuple[Turn, ...]
    settings: RetrieverSettings
    vector: Vectors | None = None
    scores: dict[Reading, float] = field(default_factory=dict)

    def decide(self, memory: Memory) -> Pass | Hits | Needs:
        """Facts in scope, the surest first; the memory must not change meanwhile."""
        candidates = named(memory, self.turns, self.vector, self.settings.max_candidates)
        if candidates is None:
            return Needs(vector=True)
        if not candidates and self._may_name_otherwise(memory):
            if self.vector is None:
                return Needs(vector=True)
            candidates = nearest(memory, self.turns, self.vector, self.settings.nearest)
        if not candidates:
            return Pass("no_subject_named")
        return self._in_scope(candidates) or Pass("out_of_scope")

    def _may_name_otherwise(self, memory: Memory) -> bool:
        """Whether the request is worth a call of the encoder."""
        if not self.settings.nearest:
            return False
        return not self.settings.gate or memory.may_mention(self.turns[-1].words)

    def _in_scope(self, candidates: Sequence[Candidate]) -> Hits | Needs:
        missing = {c.reading for c in candidates} - self.scores.keys()
        if missing:
            return Needs(readings=sorted(missing))
        hits: dict[str, tuple[Fact, float]] = {}
        for candidate in candidates:
            score = self.scores[candidate.reading]
            _, known = hits.get(candidate.fact.id, (None, self.settings.threshold))
            if score >= known:
                hits[candidate.fact.id] = candidate.fact, score
        # Facts come in the order in which they were added: of equals the newest is first.
        ranked = sorted(enumerate(hits.values()), key=lambda at: (at[1][1], at[0]), reverse=True)
        return [hit for _, hit in ranked[: self.settings.max_facts]]
