"""The life of an edit: the one place that changes its state."""

import asyncio
import logging
from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import Any

from vllm_edit.domain.edit import (
    ENDED,
    UNFINISHED,
    Edit,
    EditRequest,
    Failure,
    Proposal,
    Status,
    Step,
)
from vllm_edit.domain.edit_set import EditSet, require_thawed
from vllm_edit.domain.errors import (
    AnsweredBadly,
    ConflictingState,
    EditError,
    InternalError,
    NotTold,
    ProbesFailed,
    StoreError,
)
from vllm_edit.domain.method import Method, MethodChange
from vllm_edit.domain.own_answers import OwnAnswers
from vllm_edit.domain.probe import Scores
from vllm_edit.domain.traffic_split import TrafficSplit
from vllm_edit.engine.progress import Progress
from vllm_edit.ledger import EDIT, Ledger
from vllm_edit.probes.gate import Baseline, ProbeGate
from vllm_edit.probes.metrics import FAILED, NOT_TOLD_FAILED
from vllm_edit.probes.teller import Teller
from vllm_edit.processes.supervision import report_fault
from vllm_edit.service.fact_conflicts import FactConflicts
from vllm_edit.service.held_back import HeldBack
from vllm_edit.service.jobs import group_by, reasons_of, retries
from vllm_edit.service.judging import Judging
from vllm_edit.service.settling import Settling
from vllm_edit.service.supersession import Supersession
from vllm_edit.service.telling import MOST_AT_ONCE, Telling

logger = logging.getLogger(__name__)


class EditLifecycle:
    """Brings edits into effect and rolls them back.

    Every step is in the ledger before its effect. Slow computing runs without the lock. If its
    result no longer fits what is in effect by then, it is computed again. Edits are asked and
    judged under the lock, so that nothing else changes meanwhile.

    Whatever fails in a change, what is served afterwards is what the ledger says: see `Settling`.
    The owner of this lifecycle calls `mend` when that is unsettled, until it succeeds. Lives on one
    event loop.
    """

    def __init__(
        self,
        ledger: Ledger,
        methods: Sequence[Method],
        gate: ProbeGate | None = None,
        teller: Teller | None = None,
        told_again: int = MOST_AT_ONCE,
    ) -> None:
        self._ledger = ledger
        self._methods = tuple(methods)
        self._by_name: Mapping[str, Method] = {name: m for m in methods for name in m.names}
        self.telling = Telling(ledger, self._by_name, teller, told_again)
        self._reset_indexes()
        self.judging = Judging(ledger, gate)
        self.lock = asyncio.Lock()
        self.progress = Progress()
        self.held_back = HeldBack()
        self.settling = Settling(
            ledger, self._methods, self.held_back, self.progress, self._take_in_unseen
        )

    def _reset_indexes(self) -> None:
        self.conflicts = FactConflicts(self._ledger, self._fact_of)
        self._supersession = Supersession(lambda e: (e.request.edit_set, self._fact_of(e.request)))
        self.telling.reset()

    def method(self, name: str) -> Method:
        """The method that serves edits of this name, which this server must offer."""
        return self._by_name[name]

    async def apply_ledger(self) -> None:
        """Bring into effect what the ledger says is, whichever server recorded it.

        An edit that cannot be is held back.

        Raises:
            StoreError: it holds edits by methods that are not offered here.
            EditError: none of a method's edits can be brought into effect.
        """
        async with self.lock:
            revision = self._ledger.revision
            try:
                await self.settling.serve(revision, hold_back=True)
            except EditError as error:
                self.settling.note(error)
                raise
            self.settling.note(None)
            self.progress.advance(revision)

    async def _take_in_unseen(self) -> None:
        """Take in events that an append recorded though it failed."""
        events = await asyncio.to_thread(self._ledger.catch_up)
        edit_ids = dict.fromkeys(event.subject for event in events if event.kind == EDIT)
        self._update_indexes(self._ledger.get(edit_id) for edit_id in edit_ids)

    async def mend(self) -> list[Edit]:
        """Serve what the ledger says, and return the edits that are unfinished.

        Raises EditError if it cannot be served yet; `unsettled` is still set then.
        """
        async with self.lock:
            await self.settling.settle()
            if self.settling.astray is not None:
                raise self.settling.astray
            self.settling.unsettled.clear()
            return [edit for edit in self._ledger.not_ended() if edit.status in UNFINISHED]

    async def resume(self) -> list[list[Edit]]:
        """Apply the ledger as its new leader; returns the jobs that the one before left.

        Raises EditError as `apply_ledger` does.
        """
        self._reset_indexes()
        edits = self._ledger.not_ended()
        self._update_indexes(edits)
        await self.apply_ledger()
        await self._fail_held_back(edits)
        for method in self._methods:
            await method.tidy([e for e in edits if e.request.method in method.names])
            await self._hold_back_untold(method)
        self.telling.ask_latest_unasked(edits)
        return self.jobs([edit for edit in edits if edit.status in UNFINISHED])

    async def _fail_held_back(self, edits: Iterable[Edit]) -> None:
        """Record the failure of memory edits that are held back: no later start can help them.

        What they superseded comes back. Weight edits wait for the base or the files they need.
        """
        failed = [
            edit
            for edit in edits
            if edit.id in self.held_back and not self._by_name[edit.request.method].queued
        ]
        if not failed:
            return
        steps = []
        for edit in failed:
            steps += edit.releasing(self._supersession.superseded_by(edit.id))
            steps.append(Step(edit.id, Status.FAILED, self.held_back.failure(edit.id)))
        await self._record(steps)
        await self.apply_ledger()
        await self._fail_held_back(self._ledger.not_ended())

    async def _hold_back_untold(self, method: Method) -> None:
        """Hold edits back that were computed again and that the server does not tell now."""
        renewed = [self._ledger.get(edit_id) for edit_id in method.take_renewed()]
        for group in group_by(renewed, self._ledger.variants_of):
            change = MethodChange(group, variants=self._ledger.variants_of(group[0]))
            async with self.lock:
                try:
                    told = await self.telling.ask(change, self._ledger.revision)
                except NotTold as error:
                    told = {i: a for i, a in error.told.items() if i not in error.reasons}
                    self.held_back.hold(error.reasons, error.code)
                news = {i: self.telling.news(self._ledger.get(i), a) for i, a in told.items()}
                await self._record([Step(i, Status.ACTIVE, told=a) for i, a in news.items() if a])
        if renewed:
            await self.apply_ledger()

    async def propose(self, proposals: Sequence[Proposal]) -> Sequence[Edit]:
        """Record new edits, all or none; raises as `FactConflicts.require_allowed` does."""
        for proposal in proposals:
            self.conflicts.require_allowed(proposal.request)
        try:
            edits = await asyncio.to_thread(self._ledger.propose, proposals)
        except StoreError:
            self.settling.unsettled.set()  # they may have been recorded
            raise
        self._update_indexes(edits)
        return edits

    async def record_split(self, split: TrafficSplit | None) -> None:
        """Record how default traffic is split from now on."""
        async with self.lock, self.settling.changing():
            await asyncio.to_thread(self._ledger.record_split, split)
            self.progress.advance(self._ledger.revision)

    def jobs(self, edits: Sequence[Edit]) -> list[list[Edit]]:
        """Group edits that take effect together: of the same method, set and pause mode."""

        def key(edit: Edit) -> Hashable:
            request = edit.request
            return self._by_name[request.method], request.edit_set, request.pause_mode

        return group_by(edits, key)

    async def activate(self, job: Sequence[Edit]) -> None:
        """Bring the edits of one job into effect in one step, or let them fail.

        Earlier edits of the same facts are superseded. Edits that an error names fail, those
        rolled back meanwhile are left out, and the rest is tried again; see `retries`. An error
        of any other kind fails them all.

        Raises StoreError if not even that can be recorded: then they are unfinished.
        """
        while job:
            try:
                await self._compute_and_apply(job)
            except EditError as error:
                if smaller := retries(job, error):
                    for retry in smaller:
                        await self.activate(retry)
                    return
                job = await self._fail(job, error)
            except Exception as error:  # noqa: BLE001 - whatever it is, it is these edits' failure
                report_fault("edits", error)
                job = await self._fail(job, InternalError.of(error))
            else:
                return

    async def _fail(self, job: Sequence[Edit], error: EditError) -> Sequence[Edit]:
        """Record that the edits which the error names failed, or all; returns the others."""
        reasons = reasons_of(error, job) or dict.fromkeys((e.id for e in job), error.message)
        bad = error if isinstance(error, AnsweredBadly) else AnsweredBadly("")
        async with self.lock, self.settling.changing():
            unfinished = self._unfinished(job)
            steps = [
                Step(
                    edit.id,
                    Status.FAILED,
                    Failure(error.code, reasons[edit.id]),
                    scores=bad.scores.get(edit.id, ()),
                    told=bad.told.get(edit.id),
                )
                for edit in unfinished
                if edit.id in reasons
            ]
            failed = await self._record(steps)
            if isinstance(error, ProbesFailed):
                FAILED.inc(len(failed))
            elif isinstance(error, NotTold):
                NOT_TOLD_FAILED.inc(len(failed))
            await self._by_name[job[0].request.method].forget(failed)
        if failed:
            logger.warning("%s: %s", ", ".join(edit.id for edit in failed), error.message)
        return [edit for edit in unfinished if edit.id not in reasons]

    async def _compute_and_apply(self, job: Sequence[Edit]) -> None:
        method = self._by_name[job[0].request.method]
        async with self.lock, self.settling.changing():
            job = await self._set_status(self._unfinished(job), Status.COMPUTING)
        while job:
            computed = await method.compute(self._change_adding(job))
            async with self.lock:
                job = self._unfinished(job)
                if job and method.ready(self._change_adding(job), computed):
                    async with self.settling.changing(job[0].request.pause_mode):
                        await self._apply(job, computed)
                    return

    async def _apply(self, job: Sequence[Edit], computed: Any) -> None:
        change, successors = self._change_adding(job), self._supersession.successors(job)
        baseline = await self.judging.take_baseline(change)
        job = await self._set_status(job, Status.APPLYING)
        method = self._by_name[job[0].request.method]
        places = self.telling.places(change.leaving)
        await method.apply(change, computed, job[-1].revision)
        scores, told = await self._examine(job, change, baseline)
        superseded = [
            Step(edit_id, Status.SUPERSEDED, superseded_by=later)
            for edit_id, later in successors.items()
        ]
        active = [
            Step(edit.id, Status.ACTIVE, scores=scores.get(edit.id, ()), told=told.get(edit.id))
            for edit in job
            if edit.id not in successors
        ]
        *_, last = await self._record([*superseded, *active])
        self.progress.advance(last.revision)
        self.follow_up(method, change, places)
        self.telling.ask_unasked(self._ledger.get(edit.id) for edit in change.coming)

    async def _examine(
        self, job: Sequence[Edit], change: MethodChange, baseline: Baseline | None
    ) -> tuple[Scores, Mapping[str, OwnAnswers]]:
        """Ask about and judge a change; before AnsweredBadly is raised, it is reversed.

        If it cannot be reversed, the edits stay in effect with what was found out.
        """
        told: Mapping[str, OwnAnswers] = {}
        try:
            told = await self.telling.ask(change, job[-1].revision)
            return await self.judging.judge(baseline), told
        except AnsweredBadly as bad:
            bad.told = {**told, **bad.told}
            method, reverse = self._by_name[job[0].request.method], change.reverse
            try:
                # Weights are named after revisions, and these are those of the one before.
                before = self.progress.revision
                await method.apply(reverse, await method.compute(reverse), before)
            except EditError as error:
                ids = ", ".join(bad.reasons)
                logger.error("%s cannot be taken back: %s", ids, error.message)  # noqa: TRY400
                return bad.scores, bad.told
            raise

    def follow_up(self, method: Method, change: MethodChange, places: frozenset[str]) -> None:
        """Have edits asked in the background after a change that is in effect.

        ``places`` are those that the leaving edits had.
        """
        places |= self.telling.places(change.coming)
        self.telling.changed(change, places)
        coming = {edit.id for edit in change.coming}
        self.telling.ask_later(i for i in method.take_renewed() if i not in coming)

    async def ask_again(self) -> None:
        """Ask again and again about edits that may be told no longer, one at a time."""
        while True:
            edit_id = await self.telling.next()
            try:
                async with self.lock, self.settling.changing():
                    edit = self._ledger.get(edit_id)
                    if edit_id in self.held_back:
                        continue
                    if told := await self.telling.ask_again(edit):
                        (edit,) = await self._record([Step(edit_id, Status.ACTIVE, told=told)])
                        self.progress.advance(edit.revision)
            except EditError as error:
                logger.warning("%s was not asked again: %s", edit_id, error.message)

    async def roll_back(self, edit_id: str) -> Edit:
        """Roll an edit back, and bring back those that it superseded.

        Raises:
            UnknownEdit: there is no such edit.
            ConflictingState: it has ended and is not served, or its set is frozen.
            EditError: the rest of its batch could not be computed, or the engine refused; the
                edit is as it was.
        """
        if self.settling.astray is not None:
            async with self.lock:
                await self.settling.settle()
        if self.settling.astray is not None:
            raise self.settling.astray
        while True:
            edit = self._get_changeable(edit_id)
            method = self._by_name[edit.request.method]
            was_active = edit.status is Status.ACTIVE
            computed = await method.compute(self._change_removing(edit)) if was_active else None
            async with self.lock:
                edit = self._get_changeable(edit_id)
                async with self.settling.changing(edit.request.pause_mode):
                    if edit.status is not Status.ACTIVE:
                        return await self._roll_back_inactive(edit)
                    if was_active and method.ready(self._change_removing(edit), computed):
                        return await self._roll_back_active(edit, computed)

    async def erase(self, edit_id: str) -> Edit:
        """Erase the texts of an edit for good; one that has not ended is rolled back before.

        Raises as `roll_back` does, except for an edit that has ended.
        """
        edit = self._ledger.get(edit_id)
        method = self._by_name.get(edit.request.method)
        if edit.status not in ENDED or (method is not None and method.serves(edit_id)):
            await self.roll_back(edit_id)
        async with self.lock:
            erased = await asyncio.to_thread(self._ledger.erase, edit_id)
            if method is not None:
                await method.forget([erased])
            self.progress.advance(erased.revision)
        return erased

    async def _roll_back_inactive(self, edit: Edit) -> Edit:
        """What the edit superseded is superseded by its successor from now on."""
        earlier = edit.releasing(self._supersession.superseded_by(edit.id))
        method = self._by_name[edit.request.method]
        *_, rolled_back = await self._record([*earlier, Step(edit.id, Status.ROLLED_BACK)])
        if method.serves(edit.id):
            await self.settling.serve(rolled_back.revision, edit.request.pause_mode)
        await method.forget([rolled_back])
        return rolled_back

    async def _roll_back_active(self, edit: Edit, computed: Any) -> Edit:
        change, method = self._change_removing(edit), self._by_name[edit.request.method]
        places = self.telling.places([edit])
        restored = [Step(earlier.id, Status.ACTIVE) for earlier in change.coming]
        *_, rolled_back = await self._record([*restored, Step(edit.id, Status.ROLLED_BACK)])
        try:
            await method.apply(change, computed, rolled_back.revision)
        except EditError:
            undone = [Step(s.edit_id, Status.SUPERSEDED, superseded_by=edit.id) for s in restored]
            await self._record([*undone, Step(edit.id, Status.ACTIVE)])
            raise
        self.progress.advance(rolled_back.revision)
        await method.forget([rolled_back])
        self.follow_up(method, change, places)
        self.telling.ask_later(earlier.id for earlier in change.coming)
        return rolled_back

    def _change_adding(self, job: Sequence[Edit]) -> MethodChange:
        successors = self._supersession.successors(job)
        earlier = [self._ledger.get(edit_id) for edit_id in successors]
        return MethodChange(
            coming=[edit for edit in job if edit.id not in successors],
            leaving=[edit for edit in earlier if edit.status is Status.ACTIVE],
            variants=self._ledger.variants_of(job[0]),
            pause_mode=job[0].request.pause_mode,
        )

    def _change_removing(self, edit: Edit) -> MethodChange:
        earlier = self._supersession.superseded_by(edit.id)
        return MethodChange(
            coming=[self._ledger.get(edit_id) for edit_id in earlier],
            leaving=[edit],
            variants=self._ledger.variants_of(edit),
            pause_mode=edit.request.pause_mode,
        )

    def _get_changeable(self, edit_id: str) -> Edit:
        """The edit; raises ConflictingState if it has ended, or its set is frozen.

        One that has ended and is served all the same can be changed.
        """
        edit = self._ledger.get(edit_id)
        served = self._by_name[edit.request.method].serves(edit_id)
        if edit.status is Status.ROLLED_BACK and not served:
            raise ConflictingState(f"{edit_id} is rolled back already.", code="already_rolled_back")
        if edit.status is Status.FAILED and not served:
            raise ConflictingState(
                f"{edit_id} failed and is not in effect; there is nothing to take back.",
                code="edit_failed",
            )
        if edit.request.edit_set is not None:
            require_thawed(self._ledger.edit_set(edit.request.edit_set))
        return edit

    def _unfinished(self, edits: Sequence[Edit]) -> Sequence[Edit]:
        """Those of the edits, in their present state, that were not rolled back meanwhile."""
        now = [self._ledger.get(edit.id) for edit in edits]
        return [edit for edit in now if edit.status in UNFINISHED]

    def _fact_of(self, request: EditRequest) -> Hashable:
        method = self._by_name[request.method]
        return method, method.fact(request)

    async def _set_status(self, edits: Sequence[Edit], status: Status) -> Sequence[Edit]:
        return await self._record([Step(edit.id, status) for edit in edits])

    async def _record(self, steps: Sequence[Step]) -> Sequence[Edit]:
        edits = await asyncio.to_thread(self._ledger.record, steps)
        self._update_indexes(edits)
        return edits

    async def record_set(
        self, edit_set: EditSet, steps: Sequence[Step] = (), deleted: bool = False
    ) -> EditSet:
        """Record a set and steps of its edits, all or none; the caller holds the lock."""
        after = await asyncio.to_thread(self._ledger.record_set, edit_set, steps, deleted)
        self._update_indexes(self._ledger.get(step.edit_id) for step in steps)
        return after

    def _update_indexes(self, edits: Iterable[Edit]) -> None:
        for edit in edits:
            if edit.status is not Status.ACTIVE:
                self.held_back.forget(edit.id)
            self._supersession.update(edit)
            self.conflicts.update(edit)
            self.telling.update(edit)
