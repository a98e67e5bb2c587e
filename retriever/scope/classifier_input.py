"""What the classifier reads: the part of a request that is about a subject, and a fact.

The subject's name is masked in both: only facts that the request names come here, and a shared
name must not hide a different relation.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass

from retriever.text import Word, mask, normalise, replace, sentence_bounds, words

MASK = "[MASK]"
TURN = " [SEP] "
PRONOUNS = frozenset({"he", "him", "his", "she", "her", "it", "its", "they", "them", "their"})
SENTENCES = 3
"""At most this many sentences that name the subject are read, the last ones."""
REACH = 160
"""At most this many characters of a sentence are read on either side of the name."""
LONGEST_TURN = 65536
"""At most this many characters of a turn are searched for names, the last ones, and as many of
their normalised form, which can be 18 times as long."""

ClassifierInput = tuple[str, str]
"""A request and a fact, with the subject's name masked in both."""

Spans = Sequence[tuple[int, int]]


@dataclass(frozen=True, slots=True)
class Turn:
    """One user turn with its words and sentences."""

    text: str
    """Normalised."""
    words: tuple[Word, ...]
    bounds: tuple[int, ...]
    """Where sentences begin and end."""


def parse_turn(text: str) -> Turn:
    """Normalise the end of a text and find its words and sentences."""
    plain = normalise(text[-LONGEST_TURN:])[-LONGEST_TURN:]
    return Turn(plain, tuple(words(plain)), tuple(sentence_bounds(plain)))


def fact_input(prompt: str, subject: str) -> str:
    """The fact as the classifier reads it: its prompt with the subject masked, no answer."""
    return mask(prompt, subject, MASK)


def request_input(turns: Sequence[Turn], spans: Sequence[Spans]) -> str | None:
    """The request as the classifier reads it; `spans[i]` is where turn i names the subject.

    If the last turn does not name it, what the latest turn that does says about the subject comes
    first. None if no turn names it.
    """
    if spans[-1]:
        return _about(turns[-1], spans[-1])
    for turn, named in zip(reversed(turns), reversed(spans), strict=True):
        if named:
            last = turns[-1].text.strip()
            return f"{_about(turn, named)}{TURN}{last[-2 * REACH :]}"
    return None


def _about(turn: Turn, spans: Spans) -> str:
    """The last sentences that name the subject, and the next one if it has a pronoun.

    A name may be brought up in one sentence and asked about in the next.
    """
    pieces: dict[tuple[int, int], str] = {}
    bounds, last = _bounds(turn, spans), 0
    for start, end in spans[-SENTENCES:]:
        first, last = bisect_right(bounds, start) - 1, bisect_left(bounds, end)
        begin = max(bounds[first], start - REACH)
        stop = min(bounds[last], end + REACH)
        inside = [(a - begin, b - begin) for a, b in spans if begin <= a and b <= stop]
        pieces[first, last] = replace(turn.text[begin:stop], inside, MASK).strip()
    if last + 1 < len(bounds):
        following = turn.text[bounds[last] : bounds[last + 1]]
        if any(word.folded in PRONOUNS for word in words(following)):
            pieces[last, last + 1] = following[:REACH].strip()
    return " ".join(pieces.values())


def _bounds(turn: Turn, spans: Spans) -> Sequence[int]:
    """The turn's bounds without those that a name's own mark makes: "Yahoo! was founded by"."""
    ends = {end for _, end in spans if turn.text[end - 1] in ".!?"}
    if not ends:
        return turn.bounds
    within = {_next_word(turn.text, end) for end in ends} - {turn.bounds[0], turn.bounds[-1]}
    return [bound for bound in turn.bounds if bound not in within]


def _next_word(text: str, at: int) -> int:
    """The first position from there on that holds no space."""
    while at < len(text) and text[at] == " ":
        at += 1
    return at
