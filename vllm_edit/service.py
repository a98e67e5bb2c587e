"""The life of an edit: the one place that changes its state."""

import asyncio
import logging
import secrets
from collections.abc import Mapping, Sequence
from itertools import groupby

from vllm_edit.edit import UNFINISHED, Edit, EditRequest, Failure, Status
from vllm_edit.errors import ConflictingState, EditError, StoreError
from vllm_edit.guard import Guard
from vllm_edit.ledger import Ledger
from vllm_edit.methods import Method

logger = logging.getLogger(__name__)


class EditService:
    """Takes edits in, makes them effective, takes them back.

    Every step is in the ledger before its effect, and the effect is there before the answer, so
    an acknowledged edit survives a killed process. Lives on one event loop.
    """

    def __init__(self, ledger: Ledger, methods: Sequence[Method], guard: Guard) -> None:
        self._ledger = ledger
        self._methods = tuple(methods)
        self._by_name: Mapping[str, Method] = {name: m for m in methods for name in m.names}
        self._guard = guard
        self._effect_lock = asyncio.Lock()
        self._finished: dict[str, asyncio.Event] = {}
        self._queue: asyncio.Queue[Edit] = asyncio.Queue()
        self._tasks: list[asyncio.Task[None]] = []
        self._served_revision = 0

    @property
    def served_revision(self) -> int:
        """Revision of the latest change that is in effect; 0 before the first."""
        return self._served_revision

    @property
    def labels(self) -> tuple[str, ...]:
        """Names of the methods that shape every answer now (merged weight edits)."""
        return tuple(label for method in self._methods for label in method.labels)

    async def start(self) -> None:
        """Replay the ledger: every acknowledged edit has had its effect when this returns.

        Raises:
            EditError: the store cannot be brought into effect; nothing must be served.
        """
        edits = self._ledger.edits()
        self._require_methods(edits)
        active = [edit for edit in edits if edit.status is Status.ACTIVE]
        for method in self._methods:
            mine = [edit for edit in active if edit.request.method in method.names]
            await method.restore(mine, self._ledger.revision)
        self._served_revision = self._ledger.revision
        for edit in edits:
            if edit.status in UNFINISHED:
                await self._activate([edit])
        self._tasks = [asyncio.create_task(self._work())]
        self._tasks += [asyncio.create_task(_prepare(method)) for method in self._methods]

    async def stop(self) -> None:
        """Stop working and close the store; unfinished edits are resumed by the next start."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for method in self._methods:
            await method.close()
        self._ledger.close()

    def edits(self) -> list[Edit]:
        """All edits, oldest first."""
        return self._ledger.edits()

    def get(self, edit_id: str) -> Edit:
        """One edit; raises UnknownEdit."""
        return self._ledger.get(edit_id)

    async def submit(self, requests: Sequence[EditRequest], wait: bool) -> list[Edit]:
        """Record new edits, all or none, and set them going.

        Returns them as they are then; with ``wait``, when each has come to its end.

        Raises:
            InvalidEdit: one of them breaks a rule; none was recorded.
        """
        for request in requests:
            self._guard.check(request)
            self._by_name[request.method].check(request)
        named = [(f"edit-{secrets.token_hex(8)}", request) for request in requests]
        edits = await asyncio.to_thread(self._ledger.propose, named)
        for method, batch in groupby(edits, key=lambda edit: self._by_name[edit.request.method]):
            if method.queued:
                for edit in batch:
                    self._finished[edit.id] = asyncio.Event()
                    self._queue.put_nowait(edit)
            else:
                await asyncio.shield(self._activate(list(batch)))
        if wait:
            for edit in edits:
                if event := self._finished.get(edit.id):
                    await event.wait()
        return [self._ledger.get(edit.id) for edit in edits]

    async def roll_back(self, edit_id: str) -> Edit:
        """Take an edit back; one still on its way never takes effect.

        Raises:
            UnknownEdit: there is no such edit.
            ConflictingState: it is rolled back already, or failed and never had an effect.
            SwapFailed: the engine refused; the edit is still active.
        """
        return await asyncio.shield(self._roll_back(edit_id))

    async def _roll_back(self, edit_id: str) -> Edit:
        async with self._effect_lock:
            before = self._ledger.get(edit_id)
            if before.status is Status.ROLLED_BACK:
                raise ConflictingState(
                    f"{edit_id} is rolled back already.", code="already_rolled_back"
                )
            if before.status is Status.FAILED:
                raise ConflictingState(
                    f"{edit_id} failed and is not in effect; there is nothing to take back.",
                    code="edit_failed",
                )
            (after,) = await self._advance([before], Status.ROLLED_BACK)
            if before.status is Status.ACTIVE:
                await self._deactivate(after)
        return after

    async def _deactivate(self, edit: Edit) -> None:
        try:
            await self._by_name[edit.request.method].deactivate(edit, edit.revision)
        except EditError:
            await self._advance([edit], Status.ACTIVE)
            raise
        self._served_revision = edit.revision

    async def _work(self) -> None:
        while True:
            edit = await self._queue.get()
            try:
                await self._activate([edit])
            except StoreError as error:
                # It stays unfinished in the ledger, and the next start takes it up again.
                logger.error("%s is left as it is: %s", edit.id, error.message)  # noqa: TRY400
            finally:
                self._finished.pop(edit.id).set()

    async def _activate(self, edits: Sequence[Edit]) -> None:
        try:
            await self._compute_and_apply(edits)
        except EditError as error:
            logger.warning("%s: %s", ", ".join(edit.id for edit in edits), error.message)
            unfinished = self._unfinished(edits)
            await self._advance(unfinished, Status.FAILED, Failure(error.code, error.message))

    async def _compute_and_apply(self, edits: Sequence[Edit]) -> None:
        method = self._by_name[edits[0].request.method]
        edits = await self._advance(self._unfinished(edits), Status.COMPUTING)
        if not edits:
            return
        computed = await method.compute(edits)
        async with self._effect_lock:
            edits = await self._advance(self._unfinished(edits), Status.APPLYING)
            if not edits:
                return
            revision = edits[-1].revision
            await method.apply(edits, computed, revision)
            await self._advance(edits, Status.ACTIVE)
            self._served_revision = revision

    def _require_methods(self, edits: Sequence[Edit]) -> None:
        alive = {*UNFINISHED, Status.ACTIVE}
        needed = {edit.request.method for edit in edits if edit.status in alive}
        if missing := needed - self._by_name.keys():
            raise StoreError(
                f"The edit store holds edits by {', '.join(sorted(missing))}, which this server "
                "does not offer. Start the version that made them and roll them back there."
            )

    def _unfinished(self, edits: Sequence[Edit]) -> Sequence[Edit]:
        """Those that nobody has taken back meanwhile."""
        now = [self._ledger.get(edit.id) for edit in edits]
        return [edit for edit in now if edit.status in UNFINISHED]

    async def _advance(
        self, edits: Sequence[Edit], status: Status, failure: Failure | None = None
    ) -> Sequence[Edit]:
        ids = [edit.id for edit in edits]
        return await asyncio.to_thread(self._ledger.advance, ids, status, failure)


async def _prepare(method: Method) -> None:
    """Get ready ahead of the first edit; what fails now is reported again by that edit."""
    try:
        await method.prepare()
    except EditError as error:
        logger.warning("%s is not ready: %s", ", ".join(method.names), error.message)
