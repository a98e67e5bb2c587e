"""A run of ascending keys, the structure of their vectors, and which keys are visible."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from retriever.encoder import Vectors
from retriever.index.structure import Structure, chunks, faiss, flat

Keys = NDArray[np.int64]
Flags = NDArray[np.bool_]
Numbers = NDArray[np.int32]
Hits = list[tuple[int, float]]


@dataclass(frozen=True)
class Contents:
    """Keys, ascending, and the row of each: keys with equal vectors share one."""

    keys: Keys
    row_of: Numbers
    visible: Flags
    removed: Flags


class Segment:
    """Searches return visible keys only; a change of visibility applies at once."""

    def __init__(self, structure: Structure, contents: Contents) -> None:
        self.structure = structure
        self.keys = contents.keys
        self.row_of = contents.row_of
        self.visible = contents.visible
        self.removed = contents.removed
        self._count()
        self._group()

    @classmethod
    def open(cls, dimension: int) -> "Segment":
        """An empty segment with exact search, to append to."""
        none = np.zeros(0, dtype=np.bool_)
        contents = Contents(np.zeros(0, np.int64), np.zeros(0, np.int32), none, none)
        return cls(flat(dimension), contents)

    def __len__(self) -> int:
        """Keys, removed ones included."""
        return len(self.keys)

    @property
    def dead(self) -> int:
        """Number of rows whose keys are all removed."""
        return len(self.structure) - self._held

    def append(self, keys: Keys, vectors: Vectors) -> None:
        """Store vectors, visible and each in a row of its own, under keys above all others."""
        rows = np.arange(len(self.structure), len(self.structure) + len(keys), dtype=np.int32)
        self.structure.add(vectors)
        self.keys = np.concatenate([self.keys, keys])
        self.row_of = np.concatenate([self.row_of, rows])
        self.visible = np.concatenate([self.visible, np.ones(len(keys), np.bool_)])
        self.removed = np.concatenate([self.removed, np.zeros(len(keys), np.bool_)])
        self._count()
        self._group()

    def slot(self, key: int) -> int:
        """Where the key is; raises KeyError if it is not stored."""
        at = int(np.searchsorted(self.keys, key))
        if at == len(self.keys) or self.keys[at] != key or self.removed[at]:
            raise KeyError(key)
        return at

    def set_visible(self, slot: int, visible: bool) -> None:
        """Show a key to searches, or hide it."""
        if bool(self.visible[slot]) == visible:
            return
        self.visible[slot] = visible
        row = int(self.row_of[slot])
        self._seen[row] += 1 if visible else -1
        bit = np.uint8(1 << (row & 7))
        if self._seen[row]:
            self._bits[row >> 3] |= bit
        else:
            self._bits[row >> 3] &= ~bit
        self._hidden += -1 if visible else 1

    def remove(self, slot: int) -> None:
        """Forget a key for good."""
        self.set_visible(slot, False)
        self.removed[slot] = True
        row = self.row_of[slot]
        self._held -= bool(self.removed[self._members(row)].all())

    def search(self, vector: Vectors, k: int, exact: bool) -> Hits:
        """At most k visible (key, cosine) pairs, best first; equal vectors latest key first."""
        k = min(k, len(self.keys) - self._hidden)
        if k < 1:
            return []
        hits = self._search_structure(vector, k, exact)
        # If most near vectors are hidden, an approximate search may miss those behind them.
        return hits if exact or len(hits) == k else self._search_structure(vector, k, True)

    def _search_structure(self, vector: Vectors, k: int, exact: bool) -> Hits:
        selector = self._selector if self._hidden else None
        scores, rows = self.structure.search(vector.reshape(1, -1), k, selector, exact)
        hits: Hits = []
        for row, score in zip(rows[0].tolist(), scores[0].tolist(), strict=True):
            if row < 0 or len(hits) >= k:
                break
            slots = self._members(row)
            hits += [(int(key), score) for key in self.keys[slots[self.visible[slots]]][::-1][:k]]
        return hits[:k]

    def vectors(self, slots: NDArray[np.intp]) -> Vectors:
        """The vectors [n, d] at some slots."""
        return self.structure.rows(self.row_of[slots].astype(np.int64))

    def scores(self, vector: Vectors, keys: Keys) -> Hits:
        """The (key, cosine) pairs of the given keys that are visible here."""
        slots = np.searchsorted(self.keys, keys)
        within = slots < len(self.keys)
        slots, keys = slots[within], keys[within]
        slots = slots[(self.keys[slots] == keys) & self.visible[slots]]
        hits: Hits = []
        for part in chunks(len(slots)):
            cosines = self.vectors(slots[part]) @ vector
            hits += zip(self.keys[slots[part]].tolist(), cosines.tolist(), strict=True)
        return hits

    def _members(self, row: int) -> Numbers:
        """The slots that share a row, ascending."""
        if self._order is None:
            return np.array([row], dtype=np.int32)
        return self._order[self._starts[row] : self._starts[row + 1]]

    def take_over(self, visible: Flags, removed: Flags) -> None:
        """Take the current flags of the segments that this one replaces."""
        if not np.array_equal(visible, self.visible) or removed.any():
            self.visible, self.removed = visible, removed
            self._count()

    def _count(self) -> None:
        """How many of the keys that share a row are visible, and held, for every row."""
        rows = len(self.structure)
        self._seen = np.bincount(self.row_of[self.visible], minlength=rows).astype(np.int32)
        held = np.bincount(self.row_of[~self.removed], minlength=rows)
        self._held = int(np.count_nonzero(held))
        self._hidden = len(self.keys) - int(self.visible.sum())
        self._bits = np.packbits(self._seen > 0, bitorder="little")
        self._selector: Any = faiss.IDSelectorBitmap(self._bits) if rows else None

    def _group(self) -> None:
        """The slots by row, where not every key has a row of its own."""
        rows = len(self.structure)
        self._order: Numbers | None = None
        if not np.array_equal(self.row_of, np.arange(len(self.row_of))) or rows != len(self.keys):
            self._order = np.argsort(self.row_of, kind="stable").astype(np.int32)
            self._starts = np.searchsorted(self.row_of[self._order], np.arange(rows + 1))
