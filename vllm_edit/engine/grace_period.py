"""Grace periods: the time after which no request of a variant remains that began before."""

import asyncio
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager


class GracePeriod:
    """Counts running requests by variant and the period they began in, as read-copy-update does.

    What requests of a variant have picked up may be removed once `over` returns. Lives on one
    event loop.
    """

    def __init__(self) -> None:
        self._period = 0
        self._running: Counter[tuple[str, int]] = Counter()
        self._waiting = asyncio.Event()

    @contextmanager
    def request(self, variant: str) -> Iterator[None]:
        """Around the whole of a request's life."""
        began = variant, self._period
        self._running[began] += 1
        try:
            yield
        finally:
            self._running[began] -= 1
            if not self._running[began]:
                del self._running[began]
                self._waiting.set()

    async def over(self, variant: str) -> None:
        """Wait until every request of the variant that is running now has ended."""
        now = self._period
        self._period += 1
        while any(v == variant and began <= now for v, began in self._running):
            self._waiting.clear()
            await self._waiting.wait()
