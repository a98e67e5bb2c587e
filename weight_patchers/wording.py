"""The rules by which every judge compares answers with targets, as texts; pure functions.

Words are those of `weight_patchers.words`. Case, marks and articles do not count, unless there is
nothing else. Two texts have the same words if they do with "Spider-Man" as one word, or as two.
"""

from collections.abc import Iterator, Sequence

import regex

from weight_patchers.words import ARTICLES, answer_ends, clean, sentence_end, spans, words

_READINGS = (True, False)
_REFERENCE = regex.compile(r"\[\p{Nd}+\]")


def normalized(text: str) -> str:
    """Without case, marks, articles and spare spaces (after SQuAD, Rajpurkar et al. 2016)."""
    return " ".join(_without_articles(words(text, joined=True)))


def exact_match(generated: str, answers: Sequence[str]) -> float:
    """1 if the generated answer is one of the answers; else 0.

    It is one if the text from its beginning to a mark that can end an answer, or to its end, has
    the same words: "Paris, in the north" answers Paris, "Paris Hilton" does not, and neither
    "3.5 million" nor "St. Louis" is answered by what stands before the full stop.
    """
    text = clean(generated)
    prefixes = [text[:end] for end in answer_ends(text)]
    return float(any(_same(prefix, answer) for answer in answers for prefix in prefixes))


def begins_with(generated: str, target: str) -> float:
    """1 if the generated answer begins with the target's words; else 0.

    "Paris, in the north" and "Paris Hilton" begin with Paris, "Parisian" does not. Where words are
    written without spaces between them (Chinese, Japanese, Korean, Thai and others) any character
    may follow.
    """
    pairs = [pair for pair in _pairs(generated, target) if pair[1]]
    if not pairs:
        return float(generated.strip().startswith(target.strip()))
    return float(any(said[: len(wanted)] == wanted for said, wanted in pairs))


def runs_on(generated: str, answers: Sequence[str]) -> float | None:
    """1 if the line or sentence goes on behind the answer, 0 if it ends there.

    None if the text does not begin with an answer: there is nothing to run on from. "Paris",
    "Paris[1]." and "Paris. It is" end; "Paris, which is" and "Paris Paris" run on. LocFT (Yang et
    al. 2026) and Mirage (Yang et al. 2025) count such an answer as wrong.
    """
    told = [answer for answer in answers if begins_with(generated, answer)]
    behind = [text for answer in told if (text := _behind(generated, answer)) is not None]
    if not behind:
        return None
    rest = _REFERENCE.sub("", min(behind, key=len))
    return float(bool(words(first_sentence(rest), joined=False)))


def says(generated: str, answers: Sequence[str]) -> float:
    """1 if the first sentence or line contains the words of one of the answers; else 0."""
    sentence = first_sentence(generated.lstrip())
    pairs = (pair for answer in answers for pair in _pairs(sentence, answer))
    return float(any(wanted and _within(wanted, said) for said, wanted in pairs))


def first_word(text: str) -> str:
    """The first word, without regard to case; "" if there is none.

    Where words are written without spaces, all up to the first other character.
    """
    first, end = "", 0
    for word, word_end in spans(clean(text), joined=False):
        if first and (word_end - len(word) != end or word.isascii()):
            break
        first, end = first + word, word_end
        if word.isascii():
            break
    return first


def unchanged(before: str, after: str) -> float:
    """1 if the first line or sentence generated is the same as before the edit; else 0."""
    first, second = (first_sentence(text.strip()) for text in (before, after))
    return float(_same(first, second) or first == second)


def first_sentence(text: str) -> str:
    """The text up to the end of its first line or sentence, without the mark that ends it."""
    return text[: sentence_end(text)]


def _without_articles(found: list[str]) -> list[str]:
    """The words without articles, unless there are no others."""
    return [word for word in found if word not in ARTICLES] or found


def _pairs(said: str, wanted: str) -> Iterator[tuple[list[str], list[str]]]:
    """The words of both texts in each reading; articles count where nothing else is wanted."""
    for joined in _READINGS:
        whole, target = words(said, joined), words(wanted, joined)
        if ARTICLES.issuperset(target):
            yield whole, target
        else:
            yield _without_articles(whole), _without_articles(target)


def _same(said: str, wanted: str) -> bool:
    return any(pair[0] == pair[1] != [] for pair in _pairs(said, wanted))


def _within(wanted: list[str], said: list[str]) -> bool:
    length = len(wanted)
    return any(said[at : at + length] == wanted for at in range(len(said) - length + 1))


def _behind(text: str, answer: str) -> str | None:
    """The text behind the answer; None if it does not begin with the answer's words."""
    plain = clean(text)
    for joined in _READINGS:
        left = _without_articles(words(answer, joined))
        for word, end in spans(plain, joined) if left else ():
            if word == left[0]:
                left = left[1:]
            elif word not in ARTICLES:
                break
            if not left:
                return plain[end:]
    return None
