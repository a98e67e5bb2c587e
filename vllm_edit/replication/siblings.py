"""The API processes of a server that share an engine with the one that changes it: its side."""

import asyncio
import logging
from collections import defaultdict

from vllm_edit.engine.grace_period import GracePeriod
from vllm_edit.engine.model_names import ModelNames
from vllm_edit.engine.progress import Progress
from vllm_edit.replication.messages import Names
from vllm_edit.replication.owner_file import OwnerFile

logger = logging.getLogger(__name__)

_LATEST_SECONDS = 10.0


class Siblings:
    """What the other API processes have reached, by what they say. Lives on one event loop.

    One that has never asked for the names has served no request with them.
    """

    def __init__(self, names: ModelNames, file: OwnerFile) -> None:
        self._names = names
        self._file = file
        self._named: defaultdict[str, Progress] = defaultdict(Progress)
        self._served: defaultdict[str, Progress] = defaultdict(Progress)

    def open(self, address: str) -> None:
        """Let them find this process."""
        self._file.write(address)

    def close(self) -> None:
        """This process ends."""
        self._file.remove()

    async def watch(self, process: str, changes: int) -> Names:
        """The names, once they changed so often."""
        _ = self._named[process]
        await self._names.changes.reached(changes)
        return Names(self._names.changes.revision, dict(self._names.namings))

    def report(self, process: str, changes: int) -> None:
        """No request of the process uses earlier names than those after so many changes."""
        self._named[process].reach(changes)

    def reached(self, process: str, revision: int) -> None:
        """Every change up to the revision is in effect in the process."""
        self._served[process].reach(revision)

    async def renamed(self) -> None:
        """Wait until no request of theirs uses names other than those of now."""
        changes = self._names.changes.revision
        await asyncio.gather(*(p.reached(changes) for p in self._named.values()))

    async def in_step(self, revision: int) -> None:
        """Wait until every change up to the revision is in effect in each, but not for ever."""
        try:
            async with asyncio.timeout(_LATEST_SECONDS):
                await asyncio.gather(*(p.reached(revision) for p in self._served.values()))
        except TimeoutError:
            logger.warning("An API process has not yet reached revision %d.", revision)


class SharedGracePeriod(GracePeriod):
    """Grace periods that are over when they are so in every API process of the server."""

    def __init__(self, siblings: Siblings) -> None:
        super().__init__()
        self._siblings = siblings

    async def over(self, variant: str) -> None:
        await asyncio.gather(self._siblings.renamed(), super().over(variant))
