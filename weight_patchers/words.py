"""Texts as the words that they are compared by, in any script."""

import unicodedata
from collections.abc import Iterator

import regex

ARTICLES = frozenset({"a", "an", "the"})

# Written without spaces between words, so that each character counts as one.
_SPACELESS = r"\p{Han}\p{Hiragana}\p{Katakana}\p{Hangul}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}"
_LETTER = rf"[[\p{{L}}\p{{M}}\p{{N}}]--[{_SPACELESS}]]"
_DIGIT = r"\p{Nd}"
_OPENS = r"(?<![^\s\p{Ps}\p{Pi}\p{Sc}\"'])"
# "-40", ".NET" and "C++", "C#": marks that make another word of one.
_BEFORE = rf"(?:{_OPENS}(?:-(?={_DIGIT})|\.(?={_LETTER})))?"
_BEHIND = rf"(?:(?:\+\+?|\#)(?!{_LETTER}))?"
_IN_NUMBER = rf"(?<={_DIGIT})[.,:](?={_DIGIT})"
_IN_WORD = rf"(?:(?<!{_DIGIT})[-'.·&_/‐‑]|[-'.·&_/‐‑](?!{_DIGIT}))"
_OTHERS = rf"[{_SPACELESS}]\p{{M}}*|[\p{{Sc}}%‰°]"


def _pattern(inside: str) -> "regex.Pattern[str]":
    word = rf"{_BEFORE}{_LETTER}+(?:(?:{inside}){_LETTER}+)*{_BEHIND}"
    return regex.compile(rf"{word}|{_OTHERS}", flags=regex.VERSION1)


_APART = _pattern(_IN_NUMBER)
_JOINED = _pattern(f"{_IN_NUMBER}|{_IN_WORD}")
_MARKS = regex.compile(_IN_WORD)
_THOUSANDS = regex.compile(rf"-?{_DIGIT}{{1,3}}(?:,{_DIGIT}{{3}})+(?:\.{_DIGIT}+)?")

_SENTENCE_END = regex.compile(r"[!?](?=[\s\p{P}]|$)|[。！？।॥؟\n]|\.(?=[\s\"'”’)\]\[]|$)")
_ANSWER_END = regex.compile(
    rf"(?<!{_DIGIT})[,:]|[,:](?!{_DIGIT})|[;!?()\[\]{{}}<>|\"\n«»“”„…。，、！？；：।॥،؛؟—]"
    rf"|(?<=\s)[-–](?=\s)|\.(?!\w)|(?<=\p{{Ll}})\.(?=\p{{Lu}})",
    flags=regex.VERSION1,
)
_LAST_WORD = regex.compile(rf"{_LETTER}+$", flags=regex.VERSION1)
_ABBREVIATIONS = frozenset(
    "st ste mt ft dr mr mrs ms prof rev hon sen rep gov gen col capt lt sgt jr sr no vs".split()
)


def clean(text: str) -> str:
    """The text in one form (NFKC), with plain apostrophes and minus signs."""
    plain = unicodedata.normalize("NFKC", text)
    return plain.replace("’", "'").replace("‘", "'").replace("−", "-")


def spans(text: str, joined: bool) -> Iterator[tuple[str, int]]:
    """The words of a clean text, without case, each with the place where it ends.

    Combining marks belong to their letters; a number is one word with its sign, its decimals and
    without commas between thousands; "%" and signs of currencies are words. Where words are
    written without spaces, each character is one. `joined`: "Spider-Man" and "D.C." are one word,
    else two.
    """
    for match in (_JOINED if joined else _APART).finditer(text):
        word = match[0].casefold()
        if _THOUSANDS.fullmatch(word):
            word = word.replace(",", "")
        yield _MARKS.sub("", word, pos=1), match.end()


def words(text: str, joined: bool) -> list[str]:
    """The words of any text; see `spans`."""
    return [word for word, _ in spans(clean(text), joined)]


def sentence_end(text: str) -> int:
    """Where the first line or sentence ends, before the mark that ends it.

    A full stop behind an initial or a usual abbreviation ends nothing, if a word follows.
    """
    for match in _SENTENCE_END.finditer(text):
        at = match.start()
        if match[0] != "." or not (_shortens(text, at) or _initial(text, at)):
            return int(at)
    return len(text)


def answer_ends(text: str) -> Iterator[int]:
    """Where an answer may end: before each mark that can end one, and at the end of the text.

    No such mark is in a number, in "U.S." or behind a usual abbreviation.
    """
    for match in _ANSWER_END.finditer(text):
        if match[0] != "." or not _shortens(text, match.start()):
            yield match.start()
    yield len(text)


def _shortens(text: str, at: int) -> bool:
    """Whether the full stop at this place stands behind an abbreviation, before a word."""
    last = _LAST_WORD.search(text[:at])
    if last is None or last[0].casefold() not in _ABBREVIATIONS:
        return False
    return text[at + 1 :].lstrip(" ")[:1].isalnum()


def _initial(text: str, at: int) -> bool:
    """Whether the full stop at this place stands behind a single capital, before a word."""
    last = _LAST_WORD.search(text[:at])
    if last is None or len(last[0]) != 1 or not last[0].isupper():
        return False
    return text[at + 1 :].lstrip(" ")[:1].isupper()
