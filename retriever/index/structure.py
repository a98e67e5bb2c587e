"""The FAISS structures behind an index. Each holds its vectors once, as float16 rows.

Rounding to float16 moves a cosine by about 1e-5; apart from that an exact search is exact.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import faiss as _faiss
import numpy as np
from numpy.typing import NDArray

from retriever.encoder import Vectors
from retriever.index.limits import Kind

Rows = NDArray[np.int64]

faiss: Any = _faiss
"""Typed as Any: its stubs lack the names that it creates when imported."""

CHUNK = 4096
"""Rows processed at a time."""

_FLOAT16 = faiss.ScalarQuantizer.QT_fp16
_LINKS = 24
_CONSTRUCTION = 80
_LISTS = 4  # times the square root of the number of vectors
_TRAINING_ROUNDS = 6
_TRAINING_PER_LIST = 40
_FEWEST_PER_LIST = 39  # FAISS warns below


@dataclass
class Structure:
    """Unit vectors by row number, from 0. `effort` is efSearch of a graph, nprobe of lists."""

    kind: Kind
    index: Any
    effort: int = 0

    def __len__(self) -> int:
        return int(self.index.ntotal)

    def add(self, vectors: Vectors) -> None:
        """Append rows."""
        self.index.add(np.ascontiguousarray(vectors, dtype=np.float32))

    def rows(self, rows: Rows) -> Vectors:
        """The vectors [n, d] of some rows."""
        store = self.index.storage if self.kind == "graph" else self.index
        vectors: Vectors = store.reconstruct_batch(np.ascontiguousarray(rows, dtype=np.int64))
        return vectors

    def search(self, vectors: Vectors, k: int, selector: Any, exact: bool) -> tuple[Vectors, Rows]:
        """Cosines and rows, best first, of vectors [n, d]; row -1 where there are fewer than k.

        Rows that the selector excludes are not returned, except by a graph: it ignores the
        selector and returns max(effort, k) rows, from which the caller must drop them.
        """
        if self.kind == "graph" and not exact:
            k = max(self.effort, k)
            index, options = self.index, faiss.SearchParametersHNSW(efSearch=k)
        else:
            index = self.index.storage if self.kind == "graph" else self.index
            options = self._parameters(exact)
            options.sel = selector
        result: tuple[Vectors, Rows] = index.search(vectors, k, params=options)
        return result

    def copy(self) -> "Structure":
        """A copy that can grow while this one is searched."""
        return Structure(self.kind, faiss.clone_index(self.index), self.effort)

    def fitted(self) -> "Structure":
        """The same in no more memory than it needs: lists double theirs when they are full."""
        return self.copy() if self.kind == "lists" else self

    def most(self) -> int:
        """The effort beyond which more finds nothing new."""
        return int(self.index.nlist) if self.kind == "lists" else len(self)

    def outgrown(self, size: int) -> bool:
        """Whether there are too few lists for `size` vectors."""
        return self.kind == "lists" and size > 4 * (self.index.nlist / _LISTS) ** 2

    def _parameters(self, exact: bool) -> Any:
        if self.kind == "lists":
            nlist = self.index.nlist
            return faiss.SearchParametersIVF(nprobe=nlist if exact else min(self.effort, nlist))
        return faiss.SearchParameters()


def flat(dimension: int) -> Structure:
    """Exact search, row by row."""
    index = faiss.IndexScalarQuantizer(dimension, _FLOAT16, faiss.METRIC_INNER_PRODUCT)
    return Structure("exact", index)


def graph(dimension: int) -> Structure:
    """A navigable small world (HNSW)."""
    index = faiss.IndexHNSWSQ(dimension, _FLOAT16, _LINKS, faiss.METRIC_INNER_PRODUCT)
    index.hnsw.efConstruction = _CONSTRUCTION
    return Structure("graph", index, effort=64)


def lists(sample: Vectors, size: int) -> Structure:
    """Inverted lists (IVF), for about `size` vectors like the sample."""
    dimension = sample.shape[1]
    count = max(1, min(round(_LISTS * math.sqrt(size)), len(sample) // _FEWEST_PER_LIST))
    quantizer = faiss.IndexFlatIP(dimension)
    index = faiss.IndexIVFScalarQuantizer(
        quantizer, dimension, count, _FLOAT16, faiss.METRIC_INNER_PRODUCT, False
    )
    index.cp.niter = _TRAINING_ROUNDS
    index.train(sample)
    index.set_direct_map_type(faiss.DirectMap.Array)
    return Structure("lists", index, effort=16)


def sample_size(size: int) -> int:
    """Number of vectors to train lists for `size` vectors on."""
    return min(size, round(_LISTS * math.sqrt(size)) * _TRAINING_PER_LIST)


def chunks(count: int) -> Iterator[slice]:
    """0 to count in pieces."""
    return (slice(at, min(at + CHUNK, count)) for at in range(0, count, CHUNK))
