"""The pace of swaps: how much of the engine's time they may take from running requests."""

import asyncio
import contextlib
import time
from collections.abc import Callable, Mapping
from functools import partial

from vllm_edit.processes.supervision import in_background

Running = Callable[[], Mapping[str, int]]
"""The requests whose answer has begun, with the number of tokens of each."""

_POLL_SECONDS = 0.01
_LONGEST_SECONDS = 30.0
"""A request without a new token for so long waits for something else than its recomputation."""


class Pace:
    """Spaces swaps, so that they take at most ``share`` of the time while requests run.

    The time of a swap begins with its pause. It ends when each request that ran then has given
    another token or has ended, since the engine recomputes all of them first. While no request
    runs, no swap waits. Requests of other API processes are not counted. Lives on one event loop.
    """

    def __init__(self, running: Running, share: float) -> None:
        self._running = running
        self._share = share
        self._free = 0.0
        self._watching: asyncio.Task[None] | None = None

    async def wait(self) -> None:
        """Wait until the next swap may begin."""
        if self._watching:
            await self._watching
        while self._running():
            left = self._free - time.perf_counter()
            if left <= 0:
                return
            await asyncio.sleep(min(left, _POLL_SECONDS))

    def record_swap(self, paused: float) -> None:
        """Call this after a swap that paused the engine at ``paused`` (time.perf_counter)."""
        watch = partial(self._watch, self._running(), paused, self._watching)
        self._watching = in_background("pace", watch)

    async def close(self) -> None:
        """Stop watching requests."""
        if self._watching:
            self._watching.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._watching

    async def _watch(
        self, before: Mapping[str, int], paused: float, earlier: asyncio.Task[None] | None
    ) -> None:
        if earlier:
            await earlier
        while any(self._running().get(name) == count for name, count in before.items()):
            if time.perf_counter() - paused > _LONGEST_SECONDS:
                return
            await asyncio.sleep(_POLL_SECONDS)
        now = time.perf_counter()
        # A swap that did not wait leaves its time to those that do.
        self._free = max(now, self._free) + (now - paused) * (1 / self._share - 1)
