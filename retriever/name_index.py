"""Which stored names does a text name? Exact whole-word matching of many names in one pass.

The time is that of the text's words, however many names are stored.
"""

from collections.abc import Iterator, Sequence

from retriever.subject_gate import SubjectGate
from retriever.text import Name, Word

Spans = list[tuple[int, int]]

_COUNT = 32


class NameIndex:
    """Names to the keys filed under them. Not thread-safe: its owner holds a lock."""

    def __init__(self) -> None:
        # Made for a million names: a name is one string, its words joined by spaces, which no
        # word has; under it is its key, or the set of them where there are several.
        self._keys: dict[str, int | set[int]] = {}
        # First word to how many names begin with it (the low bits) and, above, a bit for each
        # length that such a name has or had.
        self._begin: dict[str, int] = {}
        self._gate = SubjectGate()

    def __len__(self) -> int:
        return len(self._keys)

    def add(self, name: Name, key: int) -> None:
        """File a key under a non-empty name; twice is once."""
        joined = " ".join(name)
        filed = self._keys.get(joined)
        if filed is None:
            self._keys[joined] = key
            self._gate.add(name)
            known = self._begin.get(name[0], 0)
            self._begin[name[0]] = (known + 1) | 1 << (_COUNT + len(name))
        elif isinstance(filed, set):
            filed.add(key)
        elif filed != key:
            self._keys[joined] = {filed, key}

    def discard(self, name: Name, key: int) -> None:
        """Take a key from under a name; a name without keys is forgotten."""
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
        """Every stored name the text names, with its ascending, disjoint spans.

        A naming inside a longer one does not count: "Paul Smith" does not name "Paul" when both
        are stored. Names that only overlap both count.
        """
        found: dict[Name, Spans] = {}
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
                        spans = found.setdefault(tuple(folded[at:end]), [])
                        _append(spans, text[at].start, text[end - 1].end)
                    break
        return found

    def may_mention(self, text: Sequence[Word]) -> bool:
        """Whether a text may name a stored name in other words, see `SubjectGate`."""
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
