"""The rules by which every judge compares answers with targets, as texts; pure functions."""

import re
import unicodedata
from collections.abc import Sequence

_ARTICLES = frozenset({"a", "an", "the"})
_PUNCTUATION = re.compile(r"[^\w\s]|_")
_CUT = re.compile(r"[.,;:!?()\"\n]")
_WORD = re.compile(r"\w+")


def normalized(text: str) -> str:
    """Without case, punctuation, articles and spare spaces (SQuAD, Rajpurkar et al. 2016)."""
    plain = _PUNCTUATION.sub("", unicodedata.normalize("NFKC", text).casefold())
    return " ".join(word for word in plain.split() if word not in _ARTICLES)


def exact_match(generated: str, answers: Sequence[str]) -> float:
    """1 if the generated answer is one of the answers, normalised; else 0.

    It is one if the text from its beginning to a punctuation mark or its end is: "Paris, in the
    north" answers Paris, "Paris Hilton" does not.
    """
    ends = [match.start() for match in _CUT.finditer(generated)]
    prefixes = {normalized(generated[:end]) for end in (*ends, len(generated))}
    return float(any(text in prefixes for answer in answers if (text := normalized(answer))))


def begins_with(generated: str, target: str) -> float:
    """1 if the generated answer begins with the target, both normalised; else 0.

    What begins is whole words: "Paris, in the north" and "Paris Hilton" begin with Paris,
    "Parisian" does not. Where words are written without spaces between them (Chinese, Japanese,
    Korean) any character may follow.
    """
    if not normalized(target):
        return float(generated.strip().startswith(target.strip()))
    return float(any(_begins(f(generated), f(target)) for f in (normalized, _normalized_apart)))


def _normalized_apart(text: str) -> str:
    """Normalised, with a space for each mark at which an answer may end."""
    return normalized(_CUT.sub(" ", text))


def _begins(text: str, start: str) -> bool:
    if not start or not text.startswith(start):
        return False
    return text[len(start) :][:1] in ("", " ") or unicodedata.east_asian_width(start[-1]) in "WF"


def runs_on(generated: str, answers: Sequence[str]) -> float | None:
    """1 if the line or sentence goes on behind the answer, 0 if it ends there.

    None if the text does not begin with an answer: there is nothing to run on from. "Paris" and
    "Paris. It is" end; "Paris, which is" and "Paris Paris" run on. LocFT (Yang et al. 2026) and
    Mirage (Yang et al. 2025) count such an answer as wrong.
    """
    told = [answer for answer in answers if begins_with(generated, answer)]
    behind = [text for answer in told if (text := _behind(generated, answer)) is not None]
    if not behind:
        return None
    return float(_WORD.search(first_sentence(min(behind, key=len))) is not None)


def says(generated: str, answers: Sequence[str]) -> float:
    """1 if the first sentence or line contains one of the answers as whole words; else 0."""
    said = f" {' '.join(_plain_words(first_sentence(generated.lstrip())))} "
    wanted = [" ".join(_plain_words(answer)) for answer in answers]
    return float(any(text and f" {text} " in said for text in wanted))


def first_word(text: str) -> str:
    """The first word, without regard to case; "" if there is none."""
    return next(iter(_WORD.findall(text.casefold())), "")


def unchanged(before: str, after: str) -> float:
    """1 if the first line or sentence generated is the same as before the edit; else 0."""
    first, second = (normalized(first_sentence(text.strip())) for text in (before, after))
    return float(first == second)


def first_sentence(text: str) -> str:
    """The text up to the end of its first line or sentence, without the mark that ends it."""
    return re.split(r"[.!?](?=\s|$)|\n", text, maxsplit=1)[0]


def _behind(text: str, answer: str) -> str | None:
    """The text behind the answer; None if it does not begin with the answer's words."""
    wanted, end = _plain_words(answer), 0
    if not wanted:
        return None
    for match in _WORD.finditer(text):
        if not wanted:
            break
        word = unicodedata.normalize("NFKC", match[0]).casefold()
        if word == wanted[0]:
            wanted = wanted[1:]
            end = match.end()
        elif word not in _ARTICLES:
            return None
    return None if wanted else text[end:]


def _plain_words(text: str) -> list[str]:
    """Without case, marks and articles; a hyphen or a full stop parts words."""
    plain = unicodedata.normalize("NFKC", text).casefold()
    return [word for word in _WORD.findall(plain) if word not in _ARTICLES]
