"""Finds a name in a text whose spelling is similar to a given one."""

import re
from collections.abc import Sequence
from difflib import SequenceMatcher

from retriever.text import Name, Word

LEAST = 0.85
"""Minimum similarity of two spellings of one name, 0 to 1 (`difflib`'s ratio)."""
LONGEST = 100
"""Names with more characters are not compared: the time for one grows with its square."""
_NUMBER = re.compile(r"\d+|\b[ivxlcdm]+\b")


def similar_name_spans(text: Sequence[Word], name: Name) -> list[tuple[int, int]]:
    """The span [start, end) of the words most similar to the name, if any is similar enough.

    Numbers must be the same: "Line 4" is not a way to write "Line 5", nor "Pius X" "Pius XI".
    """
    joined = " ".join(name)
    if len(joined) > LONGEST:
        return []
    matcher = SequenceMatcher(autojunk=False)
    numbers = _NUMBER.findall(joined)
    matcher.set_seq2(joined)
    best, spans = LEAST, []
    for size in range(max(1, len(name) - 1), len(name) + 2):
        for at in range(len(text) - size + 1):
            window = " ".join(word.folded for word in text[at : at + size])
            matcher.set_seq1(window)
            if matcher.real_quick_ratio() < best or matcher.quick_ratio() < best:
                continue
            ratio = matcher.ratio()
            if ratio >= best and _NUMBER.findall(window) == numbers:
                best, spans = ratio, [(text[at].start, text[at + size - 1].end)]
    return spans
