"""Keeps what is served equal to what the ledger says."""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace

from vllm_edit.domain.edit import Edit, Status
from vllm_edit.domain.errors import AnsweredBadly, EditError, InternalError, StoreError
from vllm_edit.domain.method import EditsByVariant, Method, changes_between
from vllm_edit.domain.variant import BASE, DEFAULT
from vllm_edit.engine.progress import Progress
from vllm_edit.ledger import Ledger
from vllm_edit.service.held_back import HeldBack
from vllm_edit.service.metrics import ASTRAY

logger = logging.getLogger(__name__)


class Settling:
    """Makes differences between the ledger and what is in effect go away.

    After each failed change ``unsettled`` is set. Where not even then what is served could be made
    what the ledger says, ``astray`` says why. ``read_unseen`` takes in events that an append
    recorded though it failed. The caller of every method holds the lock of the edits.
    """

    def __init__(
        self,
        ledger: Ledger,
        methods: Sequence[Method],
        held_back: HeldBack,
        progress: Progress,
        read_unseen: Callable[[], Awaitable[None]],
    ) -> None:
        self._ledger = ledger
        self._methods = methods
        self._held_back = held_back
        self._progress = progress
        self._read_unseen = read_unseen
        self.unsettled = asyncio.Event()
        self.astray: EditError | None = None

    async def serve(
        self, revision: int, pause_mode: str | None = None, hold_back: bool = False
    ) -> None:
        """Make every difference between what is in effect and what the ledger says go away.

        Edits that are held back stay so; with ``hold_back`` those that cannot be applied are, too.
        """
        edits = self._ledger.not_ended()
        self._require_methods(edits)
        for method in self._methods:
            target = self._held_back.without(self._active_by_variant(method, edits))
            for difference in changes_between(method.edits_by_variant, target):
                change = replace(difference, pause_mode=pause_mode)
                if hold_back:
                    await self._held_back.apply(method, change, revision)
                else:
                    await method.apply(change, await method.compute(change), revision)
            for variant in method.edits_by_variant.keys() - target.keys():
                await method.drop(variant)

    @asynccontextmanager
    async def changing(self, pause_mode: str | None = None) -> AsyncIterator[None]:
        """Around the writes and the effects of a change.

        After an error in it, whatever it is, what is served is made what the ledger says.
        """
        try:
            yield
        except AnsweredBadly:
            raise  # it is raised when the change has been undone
        except Exception as error:
            self.unsettled.set()
            self.note(InternalError.of(error))
            await self.settle(pause_mode)
            raise

    async def settle(self, pause_mode: str | None = None) -> None:
        """Serve what the ledger says; if that cannot be had, `astray` says why."""
        # What is served is known to be right under this revision: it was before the change.
        revision = self._progress.revision
        error: EditError | None = None
        try:
            await self._read_unseen()
        except EditError as unread:
            error = unread
        try:
            await self.serve(revision, pause_mode)
        except EditError as refused:
            error = refused
        self.note(error)
        if error is not None:
            logger.error("What is served may not be what is recorded: %s", error.message)

    def note(self, error: EditError | None) -> None:
        """What is served differs from the ledger because of this error, or does not differ."""
        self.astray = error
        ASTRAY.set(error is not None)

    def _active_by_variant(self, method: Method, edits: Sequence[Edit]) -> EditsByVariant:
        names = [BASE, *(edit_set.name for edit_set in self._ledger.edit_sets()), DEFAULT]
        active: dict[str, list[Edit]] = {name: [] for name in names}
        for edit in edits:
            if edit.request.method in method.names and edit.status is Status.ACTIVE:
                for variant in self._ledger.variants_of(edit):
                    active[variant].append(edit)
        return active

    def _require_methods(self, edits: Sequence[Edit]) -> None:
        offered = {name for method in self._methods for name in method.names}
        needed = {edit.request.method for edit in edits}
        if missing := needed - offered:
            raise StoreError(
                f"The edit store holds edits by {', '.join(sorted(missing))}, which this server "
                "does not offer. Start the version that made them and roll them back there."
            )
