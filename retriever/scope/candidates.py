"""Facts that may concern a conversation: those it names, and those nearest to it."""

from collections.abc import Sequence
from dataclasses import dataclass

from retriever.encoder import Vectors
from retriever.fact import Fact
from retriever.memory import Memory
from retriever.scope.classifier_input import ClassifierInput, Spans, Turn, fact_input, request_input
from retriever.scope.similar_names import similar_name_spans
from retriever.text import Name, name_of

LOOKED_THROUGH = 400
"""At most this many words of a request, the last ones, are compared with similar names."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A fact, and the request and the fact as the classifier reads them."""

    fact: Fact
    input: ClassifierInput


def named(
    memory: Memory, turns: Sequence[Turn], vector: Vectors | None, most: int
) -> list[Candidate] | None:
    """At most `most` of the facts that the turns name, or None if `vector` is needed to choose.

    `vector` [1, d] is the encoder's vector of the last turn.
    """
    spans = _spans(memory, turns)
    facts = {name: memory.facts_named(name) for name in spans}
    if sum(map(len, facts.values())) > most:
        if vector is None:
            return None
        nearest = memory.nearest(dict.fromkeys(spans, vector), most)
        kept = {fact.id for fact, _ in nearest}
        facts = {name: [f for f in same if f.id in kept] for name, same in facts.items()}
    return [_read(turns, spans[name], fact) for name, same in facts.items() for fact in same]


def nearest(memory: Memory, turns: Sequence[Turn], vector: Vectors, most: int) -> list[Candidate]:
    """Of the `most` facts nearest to the last turn, those whose subject it nearly names."""
    candidates = []
    words = turns[-1].words[-LOOKED_THROUGH:]
    for fact, _ in memory.nearest_of_all(vector, most):
        spans = similar_name_spans(words, name_of(fact.subject))
        if spans:
            candidates.append(_read(turns[-1:], [spans], fact))
    return candidates


def _spans(memory: Memory, turns: Sequence[Turn]) -> dict[Name, list[Spans]]:
    """Names of facts in effect -> their spans in each turn; names of later turns come first."""
    spans: dict[Name, list[Spans]] = {}
    for at in reversed(range(len(turns))):
        for name, places in memory.mentions(turns[at].words).items():
            spans.setdefault(name, [[] for _ in turns])[at] = places
    return spans


def _read(turns: Sequence[Turn], spans: Sequence[Spans], fact: Fact) -> Candidate:
    request = request_input(turns, spans)
    if request is None:
        raise ValueError("no turn names the subject")
    return Candidate(fact, (request, fact_input(fact.prompt, fact.subject)))
