"""Which stored names does a text name? Exact whole-word matching of many names in one pass."""

from collections import Counter, defaultdict
from collections.abc import Sequence

from retriever.text import Name, Word

Spans = list[tuple[int, int]]


class NameIndex:
    """Names to the keys filed under them. Not thread-safe: its owner holds a lock."""

    def __init__(self) -> None:
        self._keys: dict[Name, set[int]] = {}
        self._lengths: defaultdict[str, Counter[int]] = defaultdict(Counter)

    def add(self, name: Name, key: int) -> None:
        """File a key under a non-empty name; twice is once."""
        if name not in self._keys:
            self._keys[name] = set()
            self._lengths[name[0]][len(name)] += 1
        self._keys[name].add(key)

    def discard(self, name: Name, key: int) -> None:
        """Take a key from under a name; a name without keys is forgotten."""
        keys = self._keys.get(name, set())
        keys.discard(key)
        if name in self._keys and not keys:
            del self._keys[name]
            lengths = self._lengths[name[0]]
            lengths[len(name)] -= 1
            if not lengths[len(name)]:
                del lengths[len(name)]
            if not lengths:
                del self._lengths[name[0]]

    def keys(self, name: Name) -> list[int]:
        """The keys under a name, ascending."""
        return sorted(self._keys.get(name, ()))

    def mentions(self, text: Sequence[Word]) -> dict[Name, Spans]:
        """Every stored name the text names, with its ascending, disjoint spans.

        A naming inside a longer one does not count: "Paul Smith" does not name "Paul" when both
        are stored. Names that only overlap both count.
        """
        found: dict[Name, Spans] = {}
        covered = 0
        for at, word in enumerate(text):
            for length in sorted(self._lengths.get(word.folded, ()), reverse=True):
                end = at + length
                name = tuple(part.folded for part in text[at:end])
                if end <= len(text) and name in self._keys:
                    if end > covered:
                        covered = end
                        _append(found.setdefault(name, []), word.start, text[end - 1].end)
                    break
        return found


def _append(spans: Spans, start: int, end: int) -> None:
    if not spans or spans[-1][1] <= start:
        spans.append((start, end))
