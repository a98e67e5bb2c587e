"""What the owner of an engine knows about the other API processes of its server."""

import asyncio
import logging
from collections import defaultdict
from collections.abc import Callable

from vllm_edit.engine.grace_period import GracePeriod
from vllm_edit.engine.model_names import ModelNames
from vllm_edit.engine.progress import Progress
from vllm_edit.replication.messages import Names
from vllm_edit.replication.owner_file import OwnerFile

logger = logging.getLogger(__name__)

_MAX_WAIT_SECONDS = 10.0


class Siblings:
    """The names and revisions that the other API processes report. Lives on one event loop.

    ``stopped`` says why the engine answers nothing, if it does not.
    A process that has never asked for the names has served no request with them.
    """

    def __init__(
        self, names: ModelNames, file: OwnerFile, stopped: Callable[[], str | None]
    ) -> None:
        self._names = names
        self._file = file
        self.stopped = stopped
        self._names_in_use: defaultdict[str, Progress] = defaultdict(Progress)
        self._revisions: defaultdict[str, Progress] = defaultdict(Progress)

    def open(self, address: str) -> None:
        """Publish the address of this process."""
        self._file.write(address)

    def close(self) -> None:
        """Withdraw the address."""
        self._file.remove()

    async def names_after(self, process: str, changes: int) -> Names:
        """Wait until the names have changed ``changes`` times; returns them."""
        _ = self._names_in_use[process]  # from now on its requests may use the names
        await self._names.changes.wait_for(changes)
        return Names(self._names.changes.revision, dict(self._names.namings))

    def report_names(self, process: str, changes: int) -> None:
        """All requests of the process use the names after ``changes`` changes, or later ones."""
        self._names_in_use[process].advance(changes)

    def report_revision(self, process: str, revision: int) -> None:
        """Every change up to the revision is in effect in the process."""
        self._revisions[process].advance(revision)

    async def wait_for_names(self) -> None:
        """Wait until all requests of the other processes use the present names."""
        changes = self._names.changes.revision
        await asyncio.gather(*(p.wait_for(changes) for p in self._names_in_use.values()))

    async def wait_for_revision(self, revision: int) -> None:
        """Wait until every change up to the revision is in effect in each, for a limited time."""
        try:
            async with asyncio.timeout(_MAX_WAIT_SECONDS):
                await asyncio.gather(*(p.wait_for(revision) for p in self._revisions.values()))
        except TimeoutError:
            logger.warning("An API process has not yet reached revision %d.", revision)


class SharedGracePeriod(GracePeriod):
    """A grace period that ends when it has ended in every API process of the server."""

    def __init__(self, siblings: Siblings) -> None:
        super().__init__()
        self._siblings = siblings

    async def wait_for_requests(self, variant: str) -> None:
        await asyncio.gather(self._siblings.wait_for_names(), super().wait_for_requests(variant))
