"""How far a server has come, and waiting until it has come further."""

import asyncio


class Progress:
    """The revision that is in effect here, which only grows. Lives on one event loop."""

    def __init__(self) -> None:
        self.revision = 0
        self._grown = asyncio.Event()

    def reach(self, revision: int) -> None:
        """Everything up to this revision is in effect."""
        if revision > self.revision:
            self.revision = revision
            self._grown.set()
            self._grown = asyncio.Event()

    async def reached(self, revision: int) -> None:
        """Wait until everything up to this revision is in effect."""
        while self.revision < revision:
            await self._grown.wait()
