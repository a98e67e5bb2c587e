"""Nearest-neighbour search over unit vectors: exact, by a graph, or by lists, depending on size."""

from retriever.index.limits import IndexLimits, Kind
from retriever.index.vector_index import IndexState, VectorIndex

__all__ = ["IndexLimits", "IndexState", "Kind", "VectorIndex"]
