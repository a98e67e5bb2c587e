"""The index: recent changes, searched exactly, and a structure for the rest."""

import logging
import weakref
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from retriever.encoder import Vectors
from retriever.index.build import Build, Part, Plan
from retriever.index.free_memory import release_memory
from retriever.index.limits import IndexLimits, Kind
from retriever.index.segment import Hits, Segment
from retriever.index.structure import CHUNK

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class IndexState:
    """What an index is made of at the moment."""

    kind: Kind
    size: int
    """Keys stored, hidden ones included."""
    tail: int
    """Keys added since the structure was built, which are searched exactly."""
    dead: int
    """Vectors of removed keys, until the next build."""
    effort: int
    """efSearch of a graph, lists probed of lists, 0 of exact search."""
    building: bool


class VectorIndex:
    """Inner-product search over unit vectors: scores are cosines in [-1, 1].

    Up to `IndexLimits.exact` vectors it is exact. Beyond, a structure is built in the background
    while searches use the old one; it takes over between two calls, with all changes made
    meanwhile. Later searches never return a removed or hidden key. Not thread-safe: its owner
    holds a lock.
    """

    def __init__(self, limits: IndexLimits | None = None) -> None:
        self.limits = limits or IndexLimits()
        self._main: Segment | None = None
        self._tail: list[Segment] = []
        self._size = 0
        self._build: Build | None = None
        self._next = -1

    def __len__(self) -> int:
        return self._size

    def add(self, keys: Sequence[int], vectors: Vectors) -> None:
        """Store vectors [len(keys), d] under ascending keys above all that were ever stored."""
        self._adopt()
        new_keys = np.asarray(keys, dtype=np.int64)
        if not len(new_keys):
            return
        if np.diff(new_keys, prepend=self._next).min() < 1:
            raise ValueError("Keys of an index ascend, and are above all that were stored.")
        at = 0
        while at < len(new_keys):
            if not self._tail or len(self._tail[-1]) >= CHUNK:
                self._tail.append(Segment.open(vectors.shape[1]))
            end = at + CHUNK - len(self._tail[-1])
            self._tail[-1].append(new_keys[at:end], vectors[at:end])
            at = end
        self._next = int(new_keys[-1])
        self._size += len(new_keys)
        self._plan()

    def remove(self, key: int) -> None:
        """Forget a stored key; raises KeyError for another."""
        self._adopt()
        segment, slot = self._find(key)
        segment.remove(slot)
        self._size -= 1
        self._plan()

    def set_visible(self, key: int, visible: bool) -> None:
        """Show a stored key to searches, or hide it; a new key is visible. Raises KeyError."""
        self._adopt()
        segment, slot = self._find(key)
        segment.set_visible(slot, visible)

    def search(
        self, vector: Vectors, k: int, among: Sequence[int] | None = None, *, exact: bool = False
    ) -> Hits:
        """At most k visible (key, cosine) pairs, best first, of vector [d].

        Only `among`, if given, which is always exact.
        """
        self._adopt()
        hits: Hits = []
        keys = None if among is None else np.unique(np.asarray(among, dtype=np.int64))
        for segment in self._segments():
            if keys is None:
                hits += segment.search(vector, k, exact)
            else:
                hits += segment.scores(vector, keys)
        hits.sort(key=lambda pair: (pair[1], pair[0]), reverse=True)
        return hits[: max(k, 0)]

    def recall(self, vectors: Vectors) -> float:
        """The share of the vectors [n, d] for which a search finds the best exact match."""
        hits = 0
        for vector in vectors:
            best, first = (self.search(vector, 1, exact=exact) for exact in (True, False))
            hits += not best or (bool(first) and first[0][1] >= best[0][1])
        return hits / len(vectors)

    @property
    def state(self) -> IndexState:
        self._adopt()
        main = self._main
        return IndexState(
            kind=main.structure.kind if main else "exact",
            size=self._size,
            tail=sum(len(segment) for segment in self._tail),
            dead=sum(segment.dead for segment in self._segments()),
            effort=main.structure.effort if main else 0,
            building=self._build is not None,
        )

    def settle(self, timeout: float | None = None) -> None:
        """Wait until nothing is being built; raises TimeoutError."""
        while self._build is not None:
            self._build.result.exception(timeout)
            self._adopt()

    def _segments(self) -> list[Segment]:
        """The segments that are not empty, by ascending keys."""
        main = [self._main] if self._main else []
        return [segment for segment in (*main, *self._tail) if len(segment)]

    def _find(self, key: int) -> tuple[Segment, int]:
        segments = self._segments()
        at = bisect_right(segments, key, key=lambda segment: int(segment.keys[0])) - 1
        if at < 0:
            raise KeyError(key)
        return segments[at], segments[at].slot(key)

    def _plan(self) -> None:
        """Start the build that the size calls for, unless one is running."""
        if self._build is not None:
            return
        present: Kind = self._main.structure.kind if self._main else "exact"
        kind = self.limits.kind(self._size, present)
        segments = self._segments()
        rows = sum(len(segment.structure) for segment in segments)
        dead = sum(segment.dead for segment in segments)
        stale = dead > max(self.limits.dead * rows, self.limits.tail * self.limits.dead)
        tail = sum(len(segment) for segment in self._tail)
        grown = kind != "exact" and tail >= self.limits.tail
        if stale or grown or kind != present:
            same = kind == present and not stale
            main = self._main.structure if self._main and same else None
            self._begin(kind, extend=main is not None and not main.outgrown(self._size))

    def _begin(self, kind: Kind, extend: bool) -> None:
        if not self._size:
            self._main, self._tail = None, []
            return
        parts = tuple(Part.of(segment) for segment in self._segments())
        # What is added from now on goes into a new segment: these are only read.
        self._build = Build(Plan(kind, parts, extend, self.limits.recall))
        self._tail.append(Segment.open(parts[0].segment.structure.index.d))
        self._unused = weakref.finalize(self, self._build.stop.set)

    def _adopt(self) -> None:
        """Switch to a finished build, with the flags of now."""
        if self._build is None or not self._build.result.done():
            return
        build, self._build = self._build, None
        self._unused.detach()
        if error := build.result.exception():
            logger.error("The index could not be built and stays as it is: %s", error)
            return
        parts = build.plan.parts
        self._main = build.result.result()
        self._main.take_over(
            np.concatenate([part.segment.visible[part.slots] for part in parts]),
            np.concatenate([part.segment.removed[part.slots] for part in parts]),
        )
        built = {id(part.segment) for part in parts}
        self._tail = [segment for segment in self._tail if id(segment) not in built]
        unused: list[object] = [build]
        del build, parts
        release_memory(unused)
        self._plan()
