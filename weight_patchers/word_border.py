"""Where a name stands as whole words: "Jifulian" does not contain the word "Jiful".

`retriever.word_border` holds the same code, because neither package imports the
other. A test compares the two files.
"""

import re
from collections.abc import Iterator

UNSPACED = (
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
)
"""Scripts without spaces (Thai, Lao, Burmese, Khmer, kana, Han): a word may end anywhere."""
HANGUL = "\u1100-\u11ff\u3130-\u318f\uac00-\ud7af"
MARKS = (
    "\u0300-\u036f\u0591-\u05c7\u0610-\u061a\u064b-\u065f\u0670\u0900-\u0963\u0966-\u0dff"
    "\u200c\u200d"
)
r"""Combining marks and joiners that belong to a word though Python's \w leaves them out."""

PARTICLES = frozenset(
    "은 는 이 가 을 를 의 에 에서 에게 에게서 한테 께 께서 로 으로 와 과 랑 이랑 하고 도 만 "
    "까지 부터 마다 조차 마저 보다 처럼 이나 이며 이고 이다 입니다 인 이란 이라는 라는 이라고 "
    "라고 에는 에도 에서는 에서의 에게는 으로는 로는 으로의 로의 와의 과의 까지의 부터의 만의 "
    "만은".split()
)
"""What Korean writes directly behind a noun, without a space."""

PREFIXES = frozenset("و ف ب ك ل وب ول فب فل وك".split())
"""What Arabic writes directly before a noun: and, so, in, as, for."""
ARTICLE = "ال"

_LETTER = rf"[\w{MARKS}]"
_IN_WORD = re.compile(rf"(?![{UNSPACED}{HANGUL}]){_LETTER}")
_LONGEST = max(map(len, PARTICLES))
_HANGUL = re.compile(rf"[{HANGUL}]+")
_BEFORE = re.compile(r"\w+\Z")


def whole_places(text: str, name: str) -> Iterator[int]:
    """Where `name`, which is not empty, stands in the text as whole words, ascending.

    No letter, digit or combining mark stands directly before or behind it. Where a script has no
    spaces between words, any may. A Korean particle behind a name and an Arabic preposition before
    one with its article belong to no word.
    """
    at = text.find(name)
    while at >= 0:
        if _begins(text, at) and _ends(text, at + len(name)):
            yield at
        at = text.find(name, at + 1)


def _begins(text: str, start: int) -> bool:
    if start == 0 or not _joined(text[start - 1], text[start]):
        return True
    before = _BEFORE.search(text, max(0, start - 3), start)
    return text.startswith(ARTICLE, start) and before is not None and before[0] in PREFIXES


def _ends(text: str, end: int) -> bool:
    if end == len(text) or not _joined(text[end - 1], text[end]):
        return True
    behind = _HANGUL.match(text, end, end + _LONGEST + 1)
    return behind is not None and behind[0] in PARTICLES


def _joined(before: str, after: str) -> bool:
    """Whether two neighbouring characters belong to one word."""
    if _HANGUL.match(before) or _HANGUL.match(after):
        return bool(_HANGUL.match(before) and _HANGUL.match(after))
    return bool(_IN_WORD.match(before) and _IN_WORD.match(after))
