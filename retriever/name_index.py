"""Finds stored names in a text: exact whole-word matching of many names in one pass.

The time grows with the words of the text, not with the number of names.
"""

from collections.abc import Iterator, Sequence

from retriever.subject_gate import SubjectGate
from retriever.text import Name, Word

Spans = list[tuple[int, int]]

_COUNT = 32


class NameIndex:
    """Names to the keys filed under them. Not thread-safe: its owner holds a lock."""

    def __init__(self) -> None:
        # Sized for a million names: a name is one string, its words joined by spaces, which no
        # word has. Its value is one key, or a set if there are several.
        self._keys: dict[str, int | set[int]] = {}
        # First word -> how many names begin with it (low bits) and a bit for each length that
        # such a name has or had (high bits).
        self._begin: dict[str, int] = {}
        self._gate = SubjectGate()

    def __len__(self) -> int:
        return len(self._keys)

    def add(self, name: Name, key: int) -> None:
        """File a key under a non-empty name; filing it again changes nothing."""
        joined = " ".join(name)
        filed = self._keys.get(joined)
        if filed is None:
            self._keys[joined] = key
            self._gate.add(name)
            entry = self._begin.get(name[0], 0)
            self._begin[name[0]] = (entry + 1) | 1 << (_COUNT + len(name))
        elif isinstance(filed, set):
            filed.add(key)
        elif filed != key:
            self._keys[joined] = {filed, key}

    def discard(self, name: Name, key: int) -> None:
        """Remove a key from a name; a name without keys is forgotten."""
        joined = " ".join(name)
        filed = self._keys.get(joined)
        if isinstance(filed, set):
            filed.discard(key)
            if len(filed) == 1:
                self._keys[joined] = filed.pop()
        elif filed == key:
            del self._keys[joined]
            self._gate.discard(name)
            self._begin[name[0]] -= 1
            if not self._begin[name[0]] & ((1 << _COUNT) - 1):
                del self._begin[name[0]]

    def keys(self, name: Name) -> list[int]:
        """The keys under a name, ascending."""
        filed = self._keys.get(" ".join(name), ())
        return [filed] if isinstance(filed, int) else sorted(filed)

    def mentions(self, text: Sequence[Word]) -> dict[Name, Spans]:
        """Every stored name in the text, with its ascending, disjoint spans.

        A name inside a longer one does not count: "Paul Smith" does not name "Paul" when both
        are stored. Names that only overlap both count.
        """
        mentions: dict[Name, Spans] = {}
        folded = [word.folded for word in text]
        covered = 0
        for at, first in enumerate(folded):
            if first not in self._begin:
                continue
            for length in self._lengths(first):
                end = at + length
                if end <= len(text) and " ".join(folded[at:end]) in self._keys:
                    if end > covered:
                        covered = end
                        spans = mentions.setdefault(tuple(folded[at:end]), [])
                        _append(spans, text[at].start, text[end - 1].end)
                    break
        return mentions

    def may_mention(self, text: Sequence[Word]) -> bool:
        """Whether a text may hold a stored name in another spelling, see `SubjectGate`."""
        return self._gate.opens(text)

    def _lengths(self, first: str) -> Iterator[int]:
        """Lengths that names with this first word can have, the longest first."""
        lengths = self._begin[first] >> _COUNT
        while lengths:
            length = lengths.bit_length() - 1
            yield length
            lengths ^= 1 << length


def _append(spans: Spans, start: int, end: int) -> None:
    if not spans or spans[-1][1] <= start:
        spans.append((start, end))
