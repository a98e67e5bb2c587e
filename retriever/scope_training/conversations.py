"""Pairs as the second turn of a conversation, made of pairs that are one request."""

import random
import re
from collections.abc import Iterator, Sequence

from retriever.scope_training.pair import Pair
from retriever.scope_training.templates import CLOSINGS, OPENINGS, PREFIXES

SOURCE = "conversations"
_PRONOUNS = (("he", "him", "his"), ("she", "her", "her"), ("it", "it", "its"))
_PREPOSITIONS = "of|by|for|to|with|in|from|at"


def with_pronoun(request: str, name: str, rng: random.Random) -> str:
    """The request with pronouns in place of a name, matched exactly."""
    subject, other, owner = rng.choice(_PRONOUNS)
    text = request.replace(f"{name}'s", owner)
    text = re.sub(rf"\b({_PREPOSITIONS}) {re.escape(name)}", rf"\1 {other}", text)
    return text.replace(name, subject)


def conversations(pairs: Sequence[Pair], seed: int) -> Iterator[Pair]:
    """Follow-ups in scope, and follow-ups that ask about something else."""
    rng = random.Random(seed)  # noqa: S311 - seeded, not cryptography
    easy = [pair.request for pair in pairs if pair.kind == "easy"]
    for pair in pairs:
        name = pair.edit.subject
        if pair.kind not in ("in_scope", "hard") or pair.request.count(name) != 1:
            continue
        opening = rng.choice(OPENINGS).replace("{}", name)
        follow_up = f"{rng.choice(PREFIXES)}{with_pronoun(pair.request, name, rng)}"
        yield Pair(pair.edit, (opening, follow_up), pair.kind, SOURCE)
        if pair.kind == "in_scope":
            other = rng.choice((rng.choice(CLOSINGS), rng.choice(easy or CLOSINGS)))
            yield Pair(pair.edit, (pair.request, other), "hard", SOURCE)
