"""The revision that a server has reached, and waiting for a later one."""

import asyncio

from vllm_edit.engine.metrics import SERVED


class Progress:
    """The revision that is in effect here, which only grows. Lives on one event loop."""

    def __init__(self) -> None:
        self.revision = 0
        self._grown = asyncio.Event()

    def advance(self, revision: int) -> None:
        """Note that everything up to this revision is in effect."""
        if revision > self.revision:
            self.revision = revision
            SERVED.set(revision)
            self._grown.set()
            self._grown = asyncio.Event()

    async def wait_for(self, revision: int) -> None:
        """Wait until everything up to this revision is in effect."""
        while self.revision < revision:
            await self._grown.wait()
