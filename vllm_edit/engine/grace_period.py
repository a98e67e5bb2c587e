"""Waiting until no request that has begun so far uses what is to be removed."""

import asyncio
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager


class GracePeriod:
    """Counts running requests by variant and the period they began in, as read-copy-update does.

    What the requests of a variant use may be removed when `wait_for_requests` returns. Lives on
    one event loop.
    """

    def __init__(self) -> None:
        self._period = 0
        self._running: Counter[tuple[str, int]] = Counter()
        self._waiting = asyncio.Event()

    @contextmanager
    def request(self, variant: str) -> Iterator[None]:
        """Put this around the whole of a request."""
        began = variant, self._period
        self._running[began] += 1
        try:
            yield
        finally:
            self._running[began] -= 1
            if not self._running[began]:
                del self._running[began]
                self._waiting.set()

    async def wait_for_requests(self, variant: str) -> None:
        """Wait until every request of the variant that is running now has ended."""
        now = self._period
        self._period += 1
        while any(v == variant and began <= now for v, began in self._running):
            self._waiting.clear()
            await self._waiting.wait()
