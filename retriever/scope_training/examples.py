"""Training examples: classifier inputs with labels, made from pairs."""

import random
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from retriever.encoder import Encoder
from retriever.scope.classifier_input import (
    MASK,
    TURN,
    ClassifierInput,
    fact_input,
    parse_turn,
    request_input,
)
from retriever.scope_training.conversations import with_pronoun
from retriever.scope_training.pair import Pair
from retriever.scope_training.templates import CLOSINGS, GENERIC, OPENINGS, PREFIXES, SUFFIXES
from retriever.text import Word, name_of

UNRELATED = 0.6
"""Below this cosine two texts count as different relations."""


@dataclass(frozen=True, slots=True)
class Example:
    request: str
    fact: str
    in_scope: bool

    @property
    def reading(self) -> ClassifierInput:
        return self.request, self.fact


def reading_of(pair: Pair) -> ClassifierInput | None:
    """The classifier's input for a pair; None if no turn names the subject."""
    turns = [parse_turn(text) for text in pair.turns]
    name = name_of(pair.edit.subject)
    request = request_input(turns, [spans_of(turn.words, name) for turn in turns])
    if request is None:
        return None
    return request, fact_input(pair.edit.prompt, pair.edit.subject)


def spans_of(text: Sequence[Word], name: Sequence[str]) -> list[tuple[int, int]]:
    """The spans [start, end) of characters where a text names a subject, without overlaps."""
    spans: list[tuple[int, int]] = []
    for at in range(len(text) - len(name) + 1):
        if all(text[at + i].folded == part for i, part in enumerate(name)) and (
            not spans or spans[-1][1] <= text[at].start
        ):
            spans.append((text[at].start, text[at + len(name) - 1].end))
    return spans


def make_examples(pairs: Iterable[Pair], encoder: Encoder, seed: int) -> list[Example]:
    """Examples of every kind, each input once, in a seeded order.

    Positives, besides the pairs: facts in their own words, in the words of other requests about
    them, and in the second turn of a conversation. Negatives, besides the pairs: other relations
    of the subject, requests about somebody else, longer names, and talk that asks for no fact.
    """
    rng = random.Random(seed)  # noqa: S311 - seeded, not cryptography
    pairs = list(pairs)
    read = [(pair, reading) for pair in pairs if (reading := reading_of(pair)) is not None]
    positive = list(dict.fromkeys(r for pair, r in read if pair.in_scope))
    negative = list(dict.fromkeys(r for pair, r in read if not pair.in_scope))
    made: dict[ClassifierInput, bool] = {}
    for reading in (*positive, *((fact, fact) for _, fact in positive), *_reworded(read, rng)):
        made.setdefault(reading, True)
    positive = list(made)
    hard = [*negative, *((fact, request) for request, fact in negative), *_siblings(read, rng)]
    strangers = _strangers(pairs, rng)
    facts = list(dict.fromkeys(fact for _, (_, fact) in read))
    far = _far(positive, facts, encoder, rng)
    talk = [(text, rng.choice(facts)) for text in _talk(strangers, rng)]
    for reading in (*hard, *far, *talk, *_longer_names(pairs, rng)):
        made.setdefault(reading, False)
    certain = [r for r, in_scope in made.items() if not in_scope]
    made = {_dressed(r, rng): in_scope for r, in_scope in made.items()}
    for reading, in_scope in _conversations(positive, certain, strangers, rng):
        made.setdefault(reading, in_scope)
    examples = [Example(*reading, in_scope) for reading, in_scope in made.items()]
    rng.shuffle(examples)
    return examples


def _reworded(
    read: Sequence[tuple[Pair, ClassifierInput]], rng: random.Random
) -> Iterator[ClassifierInput]:
    """Texts about one fact, each paired with another request in the fact's place."""
    by_fact: defaultdict[tuple[str, str], list[str]] = defaultdict(list)
    for pair, (request, fact) in read:
        if pair.kind == "in_scope":
            by_fact[pair.source, fact].append(request)
    for (_, fact), requests in by_fact.items():
        distinct = list(dict.fromkeys(requests))
        for request in rng.sample(distinct, min(4, len(distinct))):
            yield fact, request
            yield rng.choice(distinct), request


def _siblings(
    read: Sequence[tuple[Pair, ClassifierInput]], rng: random.Random
) -> Iterator[ClassifierInput]:
    """Requests about one edit, paired with another edit of the same subject and data set."""
    by_subject: defaultdict[object, dict[str, set[str]]] = defaultdict(dict)
    for pair, (request, fact) in read:
        if pair.kind == "in_scope":
            key = pair.source, name_of(pair.edit.subject)
            by_subject[key].setdefault(fact, set()).add(request)
    for facts in by_subject.values():
        for fact in facts:
            for other, requests in facts.items():
                if other != fact:
                    yield from ((request, fact) for request in sorted(requests)[:4])


def _far(
    positive: Sequence[ClassifierInput], facts: Sequence[str], encoder: Encoder, rng: random.Random
) -> Iterator[ClassifierInput]:
    """Requests paired with facts that are similar to theirs, but less than `UNRELATED`."""
    texts = list(dict.fromkeys(text for reading in positive for text in reading))
    chosen = rng.sample(list(facts), min(2000, len(facts)))
    vectors = dict(zip(texts, encoder.encode(texts), strict=True))
    stored = encoder.encode(chosen)
    for request, fact in positive:
        likeness = np.maximum(stored @ vectors[request], stored @ vectors[fact])
        unlike = np.argsort(-np.where(likeness < UNRELATED, likeness, -1))
        order = unlike[: int((likeness < UNRELATED).sum())].tolist()
        if order:
            yield request, chosen[rng.choice(order[:30])]
            yield request, chosen[rng.choice(order[: len(order) // 2 + 1])]


def _strangers(pairs: Sequence[Pair], rng: random.Random) -> list[str]:
    """Requests about somebody other than the edits' subjects."""
    texts = list(dict.fromkeys(pair.request for pair in pairs if pair.kind == "easy"))
    rng.shuffle(texts)
    return texts or [template.format("Zoe Adams") for template in GENERIC]


def _talk(strangers: Sequence[str], rng: random.Random) -> Iterator[str]:
    """Requests that name the subject and ask for no fact that could be edited."""
    for template in GENERIC:
        yield from [template.format(MASK)] * 8
    for text in strangers:
        words = text.split()
        size = rng.randint(1, min(3, len(words)))
        at = rng.randrange(len(words) - size + 1)
        yield " ".join([*words[:at], MASK, *words[at + size :]])


def _longer_names(pairs: Sequence[Pair], rng: random.Random) -> Iterator[ClassifierInput]:
    """Requests about somebody whose name contains the name of the edit's subject."""
    for pair in rng.sample(list(pairs), min(2500, len(pairs))):
        parts = pair.edit.subject.split()
        named = re.search(re.escape(pair.edit.subject), pair.request)
        if named is None or not all(part[:1].isupper() for part in parts) or len(parts) < 2:
            continue
        cut = rng.randrange(1, len(parts))
        short = rng.choice([[*parts[:cut], MASK], [MASK, *parts[cut:]]])
        request = pair.request.replace(pair.edit.subject, " ".join(short))
        yield request, fact_input(pair.edit.prompt, pair.edit.subject)


def _dressed(reading: ClassifierInput, rng: random.Random) -> ClassifierInput:
    """Sometimes add an opening or an ending to the request, as people do."""
    request, fact = reading
    if rng.random() < 0.25 and request.endswith("?"):
        request = f"{rng.choice(PREFIXES)}{request}{rng.choice(SUFFIXES)}"
    if rng.random() < 0.1:
        request = request.rstrip("?.")
    return request, fact


def _conversations(
    positive: Sequence[ClassifierInput],
    negative: Sequence[ClassifierInput],
    strangers: Sequence[str],
    rng: random.Random,
) -> Iterator[tuple[ClassifierInput, bool]]:
    """Second turns, and second sentences, that ask about the subject of the first."""
    in_scope = [r for r in positive if r[0].count(MASK) == 1]
    other = [r for r in negative if r[0].count(MASK) == 1 and len(r[0]) > len(MASK) + 8]

    def opening() -> str:
        named = rng.choice(other)[0] if other else rng.choice(OPENINGS).format(MASK)
        return rng.choice((rng.choice(OPENINGS).format(MASK), named))

    for request, fact in rng.sample(in_scope, min(2500, len(in_scope))):
        joint = rng.choice((TURN, TURN, " "))
        yield (
            (f"{opening()}{joint}{rng.choice(PREFIXES)}{with_pronoun(request, MASK, rng)}", fact),
            True,
        )
    for request, fact in rng.sample(other, min(2000, len(other))):
        joint = rng.choice((TURN, TURN, " "))
        yield (
            (f"{opening()}{joint}{rng.choice(PREFIXES)}{with_pronoun(request, MASK, rng)}", fact),
            False,
        )
    for request, fact in rng.sample(in_scope, min(2500, len(in_scope))):
        last = rng.choice((rng.choice(CLOSINGS), rng.choice(strangers), _renamed(request, rng)))
        yield (f"{request}{TURN}{rng.choice(PREFIXES)}{last}", fact), False


def _renamed(request: str, rng: random.Random) -> str:
    """The request about somebody else."""
    return request.replace(MASK, rng.choice(NAMES))


NAMES = (
    "Zoe Adams|Bob Stone|Kigali|Acme Corporation|the Sonata Arctica|John|Maria Lopez|Toronto|"
    "Lake Como|the Roman Empire|Microsoft|Peter the Great|Iceland|the Beatles|Dr. Kim|Boeing 747|"
    "Hamlet|Emily Watson|the Danube|Chelsea F.C.|Nokia|Mount Etna|Charles Darwin|Nairobi"
).split("|")
