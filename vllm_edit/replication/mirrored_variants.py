"""The variants in an API process that does not own the engine."""

import asyncio
import secrets
from collections.abc import Iterable
from functools import partial

from vllm_edit.domain.errors import EditError
from vllm_edit.engine.adapter_loader import Variants
from vllm_edit.engine.grace_period import GracePeriod
from vllm_edit.engine.model_names import ModelNames
from vllm_edit.processes.supervision import in_background, supervised
from vllm_edit.replication.follower import Connection
from vllm_edit.replication.messages import GetHealth, GetNames, ReportNames, ReportRevision
from vllm_edit.service.service import EditService
from vllm_edit.vllm_interface.engine import PauseMode

_HEALTH_SECONDS = 2.0
_ANSWER_SECONDS = 30.0
"""The owner answers at once, unless its event loop is busy."""


class MirroredVariants:
    """Serves the variants under the names that the owner of the engine gives them.

    Has the interface of the owner's `ServedVariants`. A change is in effect here as soon as this
    process uses the names under which the owner serves it.
    """

    def __init__(self, owner: Connection, names: ModelNames, grace: GracePeriod) -> None:
        self._owner = owner
        self._names = names
        self._grace = grace
        self._process = secrets.token_hex(8)
        self._changes = 0
        self.stopped: str | None = None
        self._acknowledged: asyncio.Task[None] | None = None
        self._tasks: list[asyncio.Task[None]] = []

    def start(self, service: EditService) -> None:
        """Keep the names up to date, and report to the owner what this process serves."""
        self._tasks = [
            supervised("names", self._follow),
            supervised("revisions", partial(self._report_revisions, service)),
            supervised("health", self._watch_health),
        ]

    async def serve(
        self, variants: Variants, weight_version: str, pause_mode: PauseMode | None = None
    ) -> None:
        """Return when the owner serves the revision and this process uses its names.

        Raises Unavailable when the owner is gone.
        """
        await self._fetch(0, int(weight_version))

    async def drop(self, variant: str) -> None:
        """Nothing to do: the owner drops it."""

    async def close(self) -> None:
        tasks = [*self._tasks, *([self._acknowledged] if self._acknowledged else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._owner.close()

    async def _follow(self) -> None:
        while True:
            await self._fetch(self._changes + 1, 0)

    async def _watch_health(self) -> None:
        while True:
            self.stopped = await self._health()
            await asyncio.sleep(_HEALTH_SECONDS)

    async def _health(self) -> str | None:
        """Why the engine answers nothing, as the owner says; or that it does not say."""
        try:
            async with asyncio.timeout(_ANSWER_SECONDS):
                return (await self._owner.ask(GetHealth())).stopped
        except (TimeoutError, EditError):
            return "The process that owns the engine does not answer. Start the server again."

    async def _fetch(self, changes: int, revision: int) -> None:
        result = await self._owner.ask(GetNames(self._process, changes, revision))
        if result.names is not None and result.names.changes > self._changes:
            self._changes = result.names.changes
            changed = self._names.copy(result.names.namings)
            earlier = self._acknowledged
            acknowledge = partial(self._acknowledge, changed, earlier)
            self._acknowledged = in_background("names", acknowledge)

    async def _acknowledge(
        self, variants: Iterable[str], earlier: asyncio.Task[None] | None
    ) -> None:
        changes = self._changes
        if earlier is not None:
            await earlier
        await asyncio.gather(*(self._grace.wait_for_requests(variant) for variant in variants))
        await self._owner.ask(ReportNames(self._process, changes))

    async def _report_revisions(self, service: EditService) -> None:
        while True:
            revision = service.served_revision
            await self._owner.ask(ReportRevision(self._process, revision))
            await service.reached(revision + 1)
