"""The life of an edit: the one place that changes its state."""

import asyncio
import logging
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

from vllm_edit.edit import ENDED, UNFINISHED, Edit, Failure, Status, Step
from vllm_edit.errors import ConflictingState, EditError, StoreError, TargetNotReached
from vllm_edit.ledger import Ledger
from vllm_edit.methods import Change, Method
from vllm_edit.succession import Succession

logger = logging.getLogger(__name__)


class Lifecycle:
    """Brings edits into effect and takes them back.

    Every step is in the ledger before its effect. What takes long is computed while others may
    change what is in effect; then it is looked at again, and computed anew if it fits no more.
    Lives on one event loop.
    """

    def __init__(self, ledger: Ledger, methods: Sequence[Method]) -> None:
        self._ledger = ledger
        self._methods = tuple(methods)
        self._by_name: Mapping[str, Method] = {name: m for m in methods for name in m.names}
        self._succession = Succession(self._fact)
        self._lock = asyncio.Lock()
        self.served_revision = 0

    def method(self, name: str) -> Method:
        """The method that serves edits of this name, which is known to be offered."""
        return self._by_name[name]

    async def restore(self) -> None:
        """Bring every acknowledged edit into effect, and finish those on their way.

        Raises:
            EditError: the store cannot be brought into effect; nothing must be served.
        """
        edits = [edit for edit in self._ledger.edits() if edit.status not in ENDED]
        self._require_methods(edits)
        for edit in edits:
            self._succession.note(edit)
        for method in self._methods:
            mine = [edit for edit in edits if edit.request.method in method.names]
            await method.restore(mine, self._ledger.revision)
        self.served_revision = self._ledger.revision
        for job in self.jobs([edit for edit in edits if edit.status in UNFINISHED]):
            await self.activate(job)

    def jobs(self, edits: Sequence[Edit]) -> list[list[Edit]]:
        """The edits as they take effect together: by batch, and by method where that is quick."""
        jobs: dict[object, list[Edit]] = {}
        for edit in edits:
            method = self._by_name[edit.request.method]
            jobs.setdefault(edit.group if method.queued else method, []).append(edit)
        return list(jobs.values())

    async def activate(self, job: Sequence[Edit]) -> None:
        """Bring the edits of one job into effect in one step; if that cannot be, they fail.

        Earlier edits of the same facts are superseded with it. Edits that do not reach their
        target fail alone and, like those that are taken back meanwhile, are left out.
        """
        while job:
            try:
                await self._bring_in(job)
            except EditError as error:
                job = await self._fail(job, error)
            else:
                return

    async def _fail(self, job: Sequence[Edit], error: EditError) -> Sequence[Edit]:
        """Let those fail that the error is about; returns the others that are on their way."""
        reasons = {edit.id: error.message for edit in job}
        if isinstance(error, TargetNotReached) and not reasons.keys().isdisjoint(error.reasons):
            reasons = dict(error.reasons)
        async with self._lock:
            unfinished = self._unfinished(job)
            steps = [
                Step(edit.id, Status.FAILED, Failure(error.code, reasons[edit.id]))
                for edit in unfinished
                if edit.id in reasons
            ]
            failed = await self._record(steps)
            await self._by_name[job[0].request.method].forget(failed)
        if failed:
            logger.warning("%s: %s", ", ".join(edit.id for edit in failed), error.message)
        return [edit for edit in unfinished if edit.id not in reasons]

    async def take_back(self, edit_id: str) -> Edit:
        """Take an edit back, and bring back those that it superseded.

        Raises:
            UnknownEdit: there is no such edit.
            ConflictingState: it is rolled back already, or failed and never had an effect.
            EditError: the rest of its batch could not be computed, or the engine refused; the
                edit is as it was.
        """
        while True:
            edit = self._alive(edit_id)
            method = self._by_name[edit.request.method]
            active = edit.status is Status.ACTIVE
            computed = await method.compute(self._exit(edit)) if active else None
            async with self._lock:
                edit = self._alive(edit_id)
                if edit.status is not Status.ACTIVE:
                    return await self._strike(edit)
                if active and method.ready(self._exit(edit), computed):
                    return await self._revoke(edit, computed)

    async def _bring_in(self, job: Sequence[Edit]) -> None:
        method = self._by_name[job[0].request.method]
        async with self._lock:
            job = await self._enter(self._unfinished(job), Status.COMPUTING)
        while job:
            computed = await method.compute(self._entry(job))
            async with self._lock:
                job = self._unfinished(job)
                if job and method.ready(self._entry(job), computed):
                    await self._apply(job, computed)
                    return

    async def _apply(self, job: Sequence[Edit], computed: Any) -> None:
        change, displaced = self._entry(job), self._succession.displaced(job)
        job = await self._enter(job, Status.APPLYING)
        revision = job[-1].revision
        await self._by_name[job[0].request.method].apply(change, computed, revision)
        left = [Step(i, Status.SUPERSEDED, superseded_by=by) for i, by in displaced.items()]
        come = [Step(edit.id, Status.ACTIVE) for edit in job if edit.id not in displaced]
        await self._record([*left, *come])
        self.served_revision = revision

    async def _strike(self, edit: Edit) -> Edit:
        """End an edit that has no effect; what it superseded has its successor from now on."""
        earlier = [
            Step(i, Status.SUPERSEDED, superseded_by=edit.superseded_by)
            for i in self._succession.predecessors(edit.id)
        ]
        *_, struck = await self._record([*earlier, Step(edit.id, Status.ROLLED_BACK)])
        await self._by_name[struck.request.method].forget([struck])
        return struck

    async def _revoke(self, edit: Edit, computed: Any) -> Edit:
        change, method = self._exit(edit), self._by_name[edit.request.method]
        back = [Step(earlier.id, Status.ACTIVE) for earlier in change.coming]
        *_, revoked = await self._record([*back, Step(edit.id, Status.ROLLED_BACK)])
        try:
            await method.apply(change, computed, revoked.revision)
        except EditError:
            again = [Step(s.edit_id, Status.SUPERSEDED, superseded_by=edit.id) for s in back]
            await self._record([*again, Step(edit.id, Status.ACTIVE)])
            raise
        self.served_revision = revoked.revision
        await method.forget([revoked])
        return revoked

    def _entry(self, job: Sequence[Edit]) -> Change:
        displaced = self._succession.displaced(job)
        earlier = [self._ledger.get(edit_id) for edit_id in displaced]
        return Change(
            coming=[edit for edit in job if edit.id not in displaced],
            leaving=[edit for edit in earlier if edit.status is Status.ACTIVE],
        )

    def _exit(self, edit: Edit) -> Change:
        earlier = self._succession.predecessors(edit.id)
        return Change(coming=[self._ledger.get(edit_id) for edit_id in earlier], leaving=[edit])

    def _alive(self, edit_id: str) -> Edit:
        edit = self._ledger.get(edit_id)
        if edit.status is Status.ROLLED_BACK:
            raise ConflictingState(f"{edit_id} is rolled back already.", code="already_rolled_back")
        if edit.status is Status.FAILED:
            raise ConflictingState(
                f"{edit_id} failed and is not in effect; there is nothing to take back.",
                code="edit_failed",
            )
        return edit

    def _unfinished(self, edits: Sequence[Edit]) -> Sequence[Edit]:
        """Those that nobody has taken back meanwhile."""
        now = [self._ledger.get(edit.id) for edit in edits]
        return [edit for edit in now if edit.status in UNFINISHED]

    def _fact(self, edit: Edit) -> Hashable:
        method = self._by_name[edit.request.method]
        return method, method.fact(edit.request)

    def _require_methods(self, edits: Sequence[Edit]) -> None:
        needed = {edit.request.method for edit in edits}
        if missing := needed - self._by_name.keys():
            raise StoreError(
                f"The edit store holds edits by {', '.join(sorted(missing))}, which this server "
                "does not offer. Start the version that made them and roll them back there."
            )

    async def _enter(self, edits: Sequence[Edit], status: Status) -> Sequence[Edit]:
        return await self._record([Step(edit.id, status) for edit in edits])

    async def _record(self, steps: Sequence[Step]) -> Sequence[Edit]:
        edits = await asyncio.to_thread(self._ledger.record, steps)
        for edit in edits:
            self._succession.note(edit)
        return edits
