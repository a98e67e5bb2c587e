"""Which structure an index of some size has, and when it is rebuilt."""

from dataclasses import dataclass
from typing import Literal

from retriever.errors import InvalidSettingsError

Kind = Literal["exact", "graph", "lists"]
"""Exact search (FAISS flat); HNSW; IVF."""


@dataclass(frozen=True, slots=True)
class IndexLimits:
    """Sizes in vectors. Raises `InvalidSettingsError` for a value outside its range."""

    exact: int = 20_000
    """Up to this size every search is exact."""
    graph: int = 300_000
    """Up to this size a graph is searched (HNSW), beyond it inverted lists (IVF)."""
    tail: int = 10_000
    """Vectors added since the graph or the lists were built are searched exactly; this many of
    them start a build."""
    dead: float = 0.25
    """Share of removed vectors that starts a rebuild without them."""
    recall: float = 0.99
    """Least recall@1 against exact search that a search's effort is raised to when built."""

    def __post_init__(self) -> None:
        if not 0 < self.exact <= self.graph or self.tail < 1:
            raise InvalidSettingsError("An index needs 0 < `exact` <= `graph`, and a `tail`.")
        if not (0 < self.dead < 1 and 0 < self.recall <= 1):
            raise InvalidSettingsError("`dead` and `recall` are shares, above 0.")

    def kind(self, size: int, present: Kind) -> Kind:
        """The structure for this size; a shrinking index changes at half the limit only."""
        kind = self._kind(size)
        order: tuple[Kind, ...] = ("exact", "graph", "lists")
        if order.index(kind) < order.index(present):
            return self._kind(2 * size)
        return kind

    def _kind(self, size: int) -> Kind:
        if size <= self.exact:
            return "exact"
        return "graph" if size <= self.graph else "lists"
