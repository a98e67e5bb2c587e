"""Decides which facts are in scope of one conversation, step by step.

Each step returns the decision, or what the models must compute before the next step.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

from retriever.decision import Pass
from retriever.encoder import Vectors
from retriever.fact import Fact
from retriever.memory import Memory
from retriever.scope.candidates import Candidate, named, nearest
from retriever.scope.classifier_input import ClassifierInput, Turn
from retriever.settings import RetrieverSettings

Hits = list[tuple[Fact, float]]


@dataclass(frozen=True, slots=True)
class Needs:
    """What the models must compute before the decision can be made."""

    vector: bool = False
    """Whether the encoder has to read the last turn."""
    inputs: list[ClassifierInput] = field(default_factory=list)
    """What the classifier has to read."""


@dataclass(slots=True)
class ScopeDecision:
    """The user turns, of which the last one is the request, and the models' results so far."""

    turns: tuple[Turn, ...]
    settings: RetrieverSettings
    vector: Vectors | None = None
    """The encoder's vector [1, d] of the last turn."""
    scores: dict[ClassifierInput, float] = field(default_factory=dict)

    def decide(self, memory: Memory) -> Pass | Hits | Needs:
        """Facts in scope, the most probable first; the memory must not change meanwhile."""
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
        missing = {c.input for c in candidates} - self.scores.keys()
        if missing:
            return Needs(inputs=sorted(missing))
        hits: dict[str, tuple[Fact, float]] = {}
        for candidate in candidates:
            score = self.scores[candidate.input]
            _, best = hits.get(candidate.fact.id, (None, self.settings.threshold))
            if score >= best:
                hits[candidate.fact.id] = candidate.fact, score
        # Facts come in the order in which they were added: of equals the newest is first.
        ranked = sorted(enumerate(hits.values()), key=lambda at: (at[1][1], at[0]), reverse=True)
        return [hit for _, hit in ranked[: self.settings.max_facts]]
