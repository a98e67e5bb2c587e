"""Grace periods: the time after which no request remains that began before."""

import asyncio
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager


class Grace:
    """Counts running requests by the period they began in, as read-copy-update does.

    What requests have picked up may be removed once `over` returns. Lives on one event loop.
    """

    def __init__(self) -> None:
        self._period = 0
        self._running: Counter[int] = Counter()
        self._changed = asyncio.Event()

    @contextmanager
    def request(self) -> Iterator[None]:
        """Around the whole of a request's life."""
        period = self._period
        self._running[period] += 1
        try:
            yield
        finally:
            self._running[period] -= 1
            if not self._running[period]:
                del self._running[period]
                self._changed.set()

    async def over(self) -> None:
        """Wait until every request that is running now has ended."""
        period = self._period
        self._period += 1
        while any(began <= period for began in self._running):
            self._changed.clear()
            await self._changed.wait()
