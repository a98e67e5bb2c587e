"""Evaluates retrieval and decision together: right edits found, other requests left alone."""

import random
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import chain, islice

from retriever.decision import Messages, Rewrite
from retriever.encoder import Encoder
from retriever.fact import Fact
from retriever.retriever import Retriever
from retriever.scope.classifier import Classifier
from retriever.scope_training.pair import Kind, Pair, TrainingEdit
from retriever.settings import RetrieverSettings
from retriever.text import Name, name_of

THREADS = 32
"""Requests routed at a time; the classifier reads them in batches."""

About = tuple[Name, Name]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What routing made of a pair's request, whatever the threshold."""

    pair: Pair
    right: float
    """Probability given to the pair's edit; 0 if it was no candidate."""
    better: int
    """Number of facts with a higher probability."""
    highest: float
    """The highest probability given to a fact; 0 if there was no candidate. Facts whose prompt
    is the request, word for word, are left out: they concern it, whatever its label."""
    taken: str = ""
    """The prompt of the fact with the highest probability."""

    def found(self, threshold: float, most: int) -> bool:
        """Whether the right edit is put in front of the request."""
        return self.right >= threshold and self.right > 0 and self.better < most

    def disturbed(self, threshold: float) -> bool:
        """Whether any fact is put in front of the request."""
        return self.highest >= threshold and self.highest > 0


def memory_of(
    pairs: Sequence[Pair],
    others: Iterable[TrainingEdit],
    size: int,
    seed: int,
    fillers: Iterable[TrainingEdit] = (),
) -> tuple[list[TrainingEdit], list[Pair]]:
    """`size` edits, and the pairs that can be evaluated with them in memory.

    The pairs' own edits come first, a seeded sample if there are more than `size`; then others in
    a seeded order; then the fillers in their order. Easy pairs, which are about another subject,
    fit any memory.
    """
    rng = random.Random(seed)  # noqa: S311 - seeded, not cryptography
    pair_edits = list(dict.fromkeys(pair.edit for pair in pairs))
    rng.shuffle(pair_edits)
    edits = pair_edits[:size]
    spare = [edit for edit in dict.fromkeys(others) if edit not in set(edits)]
    rng.shuffle(spare)
    edits += islice(chain(spare, fillers), size - len(edits))
    stored = {_about(edit) for edit in edits}
    return edits, [p for p in pairs if p.kind == "easy" or _about(p.edit) in stored]


def evaluate(
    edits: Sequence[TrainingEdit],
    pairs: Sequence[Pair],
    encoder: Encoder,
    classifier: Classifier,
    settings: RetrieverSettings,
    progress: Callable[[], None] = lambda: None,
) -> list[Outcome]:
    """Route every pair's request with the edits in memory; `progress` is called for each."""
    # With threshold 0 every candidate's probability is returned.
    settings = replace(settings, threshold=0.0, max_facts=settings.max_candidates)
    retriever = Retriever(encoder, settings=settings, classifier=classifier)
    facts = {str(at): _fact(str(at), edit) for at, edit in enumerate(edits)}
    retriever.add_many(facts.values())

    def ask(pair: Pair) -> Outcome:
        decision = retriever.route(_request(pair))
        progress()
        if not isinstance(decision, Rewrite):
            return Outcome(pair, 0.0, 0, 0.0)
        hits = zip(decision.edit_ids, decision.scores, strict=True)
        return _outcome(pair, [(facts[fact_id], score) for fact_id, score in hits])

    with ThreadPoolExecutor(THREADS) as threads:
        return list(threads.map(ask, pairs))


def _outcome(pair: Pair, hits: Sequence[tuple[Fact, float]]) -> Outcome:
    about = _about(pair.edit)
    right = max((score for fact, score in hits if fact.about == about), default=0.0)
    better = sum(score > right for _, score in hits)
    request = name_of(pair.request)
    others = [(score, fact.prompt) for fact, score in hits if name_of(fact.prompt) != request]
    return Outcome(pair, right, better, *max(others, default=(0.0, "")))


def share(outcomes: Sequence[Outcome], kind: Kind, threshold: float, most: int = 3) -> float:
    """The share of a kind's outcomes that were found or, for negatives, disturbed."""
    of_kind = [outcome for outcome in outcomes if outcome.pair.kind == kind]
    if kind in ("in_scope", "multi_hop"):
        hit = sum(outcome.found(threshold, most) for outcome in of_kind)
    else:
        hit = sum(outcome.disturbed(threshold) for outcome in of_kind)
    return hit / len(of_kind) if of_kind else float("nan")


def _request(pair: Pair) -> str | Messages:
    if len(pair.turns) == 1:
        return pair.request
    return [{"role": "user", "content": text} for text in pair.turns]


def _about(edit: TrainingEdit) -> About:
    return name_of(edit.prompt), name_of(edit.subject)


def _fact(fact_id: str, edit: TrainingEdit) -> Fact:
    return Fact(fact_id, edit.subject, edit.prompt, edit.target)
