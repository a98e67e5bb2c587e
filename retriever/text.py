"""Words, names and sentences of a text, as the scope decision sees them."""

import re
import unicodedata
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import NamedTuple

from retriever.word_border import HANGUL, MARKS, UNSPACED, whole_places

# Where words are written without spaces, each character is a word. Hangul and other letters are
# different words: a Korean particle stands directly behind a foreign name.
_APART = f"{UNSPACED}{HANGUL}"
_WORD = re.compile(rf"[{UNSPACED}]|[{HANGUL}]+|(?:(?![{_APART}])[\w{MARKS}])+|[^\w\s]")
_ASCII_WORD = re.compile(r"\w+|[^\w\s]")
"""`_WORD` for ASCII text, in half the time."""
_ACCENTS = re.compile("[\u0300-\u036f\u200c\u200d]")
"""Accents, and the joiners that some write between letters and others do not."""
# Looks at each run of marks once, from its beginning: a run of them without space is linear.
_SENTENCE_END = re.compile(r"(?<![.!?])([.!?]+[\"')\]]*)\s+|\u3002|\n+")
_QUESTION_MARKS = ("?", "\uff1f", "\u061f", "\u037e")
_LAST_WORD = re.compile(r"\w+\Z")
_LOOKALIKES = {
    **dict.fromkeys([0x2018, 0x2019, 0x02BC], "'"),
    **dict.fromkeys([0x201C, 0x201D], '"'),
    **dict.fromkeys([*range(0x2010, 0x2016), 0x2212], "-"),
}
_ABBREVIATIONS = frozenset({"mr", "mrs", "ms", "dr", "prof", "st", "mt", "jr", "sr"})
_LONGER = 1 + max(map(len, _ABBREVIATIONS))
"""Letters to look back for an abbreviation: one more than the longest has."""
_PIECE = 256
"""Characters that are normalised at once: the time for a run of marks grows with its square."""
_OVERLAP = 32
"""Places before the end of a piece where it may be cut, so that no letter loses its marks."""
_CACHED = 32
"""Longest word, in characters, whose folded form is cached."""

Name = tuple[str, ...]
"""A subject or alias as folded words, equal for all spellings of one name."""


class Word(NamedTuple):
    """A folded word or punctuation mark and its span in the normalised text."""

    folded: str
    start: int
    end: int


def joins_letters(text: str, at: int) -> bool:
    """Whether the character there is a zero-width joiner that belongs to a word or an emoji.

    Persian, Urdu and the scripts of India and Sri Lanka use them as letters, and emoji are joined
    by them. Behind anything else they would be invisible.
    """
    if text[at] not in "\u200c\u200d" or not at:
        return False
    before = text[at - 1]
    category = unicodedata.category(before)
    if "\u0600" <= before < "\u1e00":  # from Arabic to the last script that joins letters
        return category[0] in "LM"
    return category in ("So", "Sk") or before == "\ufe0f"


def with_full_stop(text: str) -> str:
    """The text, with a full stop added unless it ends in `.`, `?` or `!`."""
    return text if text.endswith((".", "?", "!")) else text + "."


def normalise(text: str) -> str:
    """NFKC, with typographic quotes and dashes made plain. Case is kept.

    Linear in the length: only runs of more than some hundred marks may come out differently.
    """
    if text.isascii():
        return text
    plain = "".join(unicodedata.normalize("NFKC", piece) for piece in _pieces(text))
    return plain.translate(_LOOKALIKES)


def words(normalised: str) -> list[Word]:
    """Words and punctuation marks, case and Latin, Greek and Cyrillic accents folded away.

    No word is empty: accents without a letter, as NFKC makes them of an acute, are left out.
    """
    if normalised.isascii():
        matches = _ASCII_WORD.finditer(normalised.lower())
        return [Word(m.group(), m.start(), m.end()) for m in matches]
    return [
        Word(folded, m.start(), m.end())
        for m in _WORD.finditer(normalised)
        if (folded := _fold(m.group()))
    ]


def name_of(text: str) -> Name:
    """The name a subject or alias is looked up by."""
    return tuple(word.folded for word in words(normalise(text)))


def names(text: str, subject: str) -> bool:
    """Whether the text names the subject as whole words, whatever the case and accents."""
    name, plain = name_of(subject), normalise(text)
    if not name:
        return False
    if next(_spans(words(plain), name), None) is not None:
        return True
    return next(whole_places(plain, normalise(subject)), None) is not None


def mask(text: str, subject: str, placeholder: str) -> str:
    """The normalised text with every naming of the subject replaced."""
    plain = normalise(text)
    return replace(plain, list(_spans(words(plain), name_of(subject))), placeholder)


def replace(text: str, spans: Sequence[tuple[int, int]], placeholder: str) -> str:
    """The text with each of the ascending, disjoint spans replaced."""
    parts, end = [], 0
    for start, stop in spans:
        parts += [text[end:start], placeholder]
        end = stop
    return "".join([*parts, text[end:]])


def sentence_bounds(text: str) -> list[int]:
    """Ascending positions where sentences begin and end, from 0 to the text's length.

    A full stop after an initial or a title (J., Dr., St.) ends a line only, not a sentence.
    """
    ends = {
        match.end()
        for match in _SENTENCE_END.finditer(text)
        if match.group(1) != "." or "\n" in match.group() or not _abbreviated(text, match.start())
    }
    return sorted(ends | {0, len(text)})


def is_question(text: str, longest: int) -> bool:
    """Whether the text is one question of at most `longest` characters."""
    text = text.strip()
    return len(text) <= longest and "\n" not in text and text.endswith(_QUESTION_MARKS)


def _abbreviated(text: str, stop: int) -> bool:
    """Whether the word before the full stop is an abbreviation or an initial."""
    match = _LAST_WORD.search(text, max(0, stop - _LONGER), stop)
    if match is None:
        return False
    word = match.group()
    return word.casefold() in _ABBREVIATIONS or (len(word) == 1 and word.isupper())


def _spans(text: Sequence[Word], name: Name) -> Iterator[tuple[int, int]]:
    size, at = len(name), 0
    while size and at + size <= len(text):
        if all(text[at + i].folded == part for i, part in enumerate(name)):
            yield text[at].start, text[at + size - 1].end
            at += size
        else:
            at += 1


def _fold(word: str) -> str:
    if len(word) <= _CACHED:
        return _fold_cached(word)
    return "".join(map(_fold_piece, _pieces(word)))


def _fold_piece(word: str) -> str:
    folded = word.casefold()
    if folded.isascii():
        return folded
    return unicodedata.normalize("NFC", _ACCENTS.sub("", unicodedata.normalize("NFD", folded)))


_fold_cached = lru_cache(maxsize=65536)(_fold_piece)


def _pieces(text: str) -> Iterator[str]:
    """The text in pieces of at most `_PIECE` characters, cut where nothing is composed."""
    at = 0
    while at < len(text):
        end = at + _PIECE
        if end < len(text):
            places = range(end, end - _OVERLAP, -1)
            end = next((cut for cut in places if _separable(text[cut - 1], text[cut])), end)
        yield text[at:end]
        at = end


def _separable(before: str, after: str) -> bool:
    """Whether two neighbouring characters can be normalised apart from each other."""
    if after.isascii():
        return True
    if unicodedata.combining(after):
        return False
    apart = unicodedata.normalize("NFKC", before) + unicodedata.normalize("NFKC", after)
    return unicodedata.normalize("NFKC", before + after) == apart
