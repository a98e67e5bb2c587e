"""Exact nearest-neighbour index over unit vectors."""

from collections.abc import Sequence

import faiss
import numpy as np

from retriever.encoder import Vectors


class VectorIndex:
    """FAISS inner-product search over unit vectors: scores are cosines in [-1, 1].

    Exact; a removed key is never found again. Not thread-safe: its owner holds a lock.
    """

    def __init__(self) -> None:
        self._index: faiss.IndexIDMap2 | None = None

    def __len__(self) -> int:
        return int(self._index.ntotal) if self._index is not None else 0

    def add(self, keys: Sequence[int], vectors: Vectors) -> None:
        """Store vectors [len(keys), d] under keys not stored yet."""
        if self._index is None:
            self._index = faiss.IndexIDMap2(faiss.IndexFlatIP(vectors.shape[1]))
        self._index.add_with_ids(
            np.ascontiguousarray(vectors, dtype=np.float32), np.asarray(keys, dtype=np.int64)
        )

    def remove(self, key: int) -> None:
        """Forget a stored key."""
        selector = faiss.IDSelectorBatch(np.array([key], dtype=np.int64))
        if self._index is None or self._index.remove_ids(selector) != 1:
            raise KeyError(key)

    def search(
        self, vector: Vectors, k: int, among: Sequence[int] | None = None
    ) -> list[tuple[int, float]]:
        """At most k (key, cosine) pairs, best first, of vector [d]; only `among`, if given."""
        k = min(k, len(self) if among is None else len(among))
        if self._index is None or k < 1:
            return []
        options = faiss.SearchParameters()
        if among is not None:
            selector = faiss.IDSelectorBatch(np.asarray(among, dtype=np.int64))
            options.sel = selector
        scores, keys = self._index.search(vector.reshape(1, -1), k, params=options)
        pairs = zip(keys[0].tolist(), scores[0].tolist(), strict=True)
        return [(key, score) for key, score in pairs if key >= 0]
