"""Values that several calls use: each is sought once, and the time that this saves is known."""

import time
from collections.abc import Hashable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from weight_patchers.edit import Edit
from weight_patchers.values.workload import ValueCache


@dataclass(eq=False)
class SharedValues:
    """Values in one base model without live deltas, by what they depend on.

    They are never forgotten, so this is for runs of known length. `saved` is the time in seconds
    that all calls so far would have taken longer without it.
    """

    saved: float = 0.0
    _groups: dict[Hashable, "_Values"] = field(default_factory=dict)

    @contextmanager
    def arguments(self, conditions: Hashable, edits: Sequence[Edit]) -> Iterator[dict[str, Any]]:
        """Arguments of one `Patcher.compute` of these edits; what it finds is kept.

        Calls with equal `conditions` find equal values.
        """
        values = self._groups.setdefault(conditions, _Values())
        try:
            yield {"value_cache": values.begin(edits), "progress": values.progress}
        finally:
            self.saved += values.end()


@dataclass(eq=False)
class _Values:
    """Values of equal conditions, and the seconds that one of them takes."""

    cache: ValueCache = field(default_factory=dict)
    each: float = 0.0
    _used: ValueCache = field(default_factory=dict)
    _new: int = 0
    _known: int = 0
    _start: float = 0.0

    def begin(self, edits: Sequence[Edit]) -> ValueCache:
        """A cache for these edits: a method leaves in it only what it used."""
        self._known = sum((edit,) in self.cache for edit in edits)
        self._new = len(edits) - self._known
        self._used = dict(self.cache)
        self._start = time.monotonic()
        return self._used

    def progress(self, done: int, of: int) -> None:
        """Called whenever some values are there."""
        if done == of and self._new:
            self.each = (time.monotonic() - self._start) / self._new

    def end(self) -> float:
        """Keep the values; gives the seconds that those saved which were there before."""
        self.cache.update(self._used)
        return self._known * self.each
