"""Whether a text may name a stored subject by a spelling other than the stored one.

`NameIndex` finds exact names. Most other requests have nothing to do with any subject; the gate
finds that out in microseconds, where the encoder takes milliseconds. A text passes if it has two
neighbouring words of a name near to each other, in either order, or the whole of a one-word name.
Only the beginning of a word is compared, without a final s; words like "the" are ignored.
"""

from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import chain

from retriever.text import Name, Word

_NEAR = 4
"""Two words of a name count in a text if they are fewer than this many words apart."""

_BEGINNING = 6
"""Letters of a word that are compared: spellings and endings mostly differ after them."""

_LITTLE = frozenset(
    "the of a an in is was are were be for to on at by and or with from as that this it its who "
    "what which where when how why did does do s".split()
)


class SubjectGate:
    """The names of the facts in effect. Not thread-safe: its owner holds a lock."""

    def __init__(self) -> None:
        # Hash of a pair of words -> how many names have it. A collision is rare and costs only a
        # call of the encoder.
        self._pairs: dict[int, int] = {}

    def add(self, name: Name) -> None:
        """Add a name; call `discard` once for each call."""
        for pair in _pairs_of(name):
            self._pairs[pair] = self._pairs.get(pair, 0) + 1

    def discard(self, name: Name) -> None:
        """Forget a name that was added."""
        for pair in _pairs_of(name):
            self._pairs[pair] -= 1
            if not self._pairs[pair]:
                del self._pairs[pair]

    def opens(self, text: Sequence[Word]) -> bool:
        """Whether the text may name a subject, so that the encoder should run."""
        parts = _stems([word.folded for word in text])
        return not self._pairs.keys().isdisjoint(chain(map(hash, parts), _pairs(parts, _NEAR)))


def _pairs_of(name: Name) -> Iterator[int]:
    """Hashes of a name's pairs, each once; of a one-word name, the hash of that word."""
    parts = _stems(name)
    if len(parts) == 1:
        yield hash(parts[0])
    yield from {*_pairs(parts, 3)}


def _pairs(parts: Sequence[str], near: int) -> Iterator[int]:
    """Hashes of every two words fewer than `near` places apart, in either order."""
    for gap in range(1, near):
        for a, b in zip(parts, parts[gap:], strict=False):
            yield hash((a, b) if a < b else (b, a))


def _stems(words: Sequence[str]) -> list[str]:
    """The beginnings of the words that carry meaning, without a final s."""
    # What follows cannot change the stem, and a cache must not keep words of any length.
    return [stem for word in words if (stem := _stem(word[: _BEGINNING + 1]))]


@lru_cache(maxsize=65536)
def _stem(word: str) -> str:
    """Empty for a word without meaning of its own."""
    if word in _LITTLE or not word[0].isalnum():
        return ""
    return word[: min(_BEGINNING, len(word) - (len(word) > 3 and word[-1] == "s"))]
