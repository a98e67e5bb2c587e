"""The life of an edit: the one place that changes its state."""

import asyncio
import logging
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from itertools import groupby
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
    ComputeFailed,
    ConflictingState,
    EditError,
    ProbesFailed,
    StoreError,
)
from vllm_edit.domain.method import EditsByVariant, Method, MethodChange, changes
from vllm_edit.domain.probe import Scores
from vllm_edit.domain.variant import BASE, DEFAULT
from vllm_edit.engine.progress import Progress
from vllm_edit.ledger import Ledger
from vllm_edit.probes.gate import ProbeGate, Trial
from vllm_edit.probes.metrics import FAILED
from vllm_edit.service.facts_by_set import FactsBySet, Home
from vllm_edit.service.supersession import Supersession

logger = logging.getLogger(__name__)


class EditLifecycle:
    """Brings edits into effect and takes them back.

    Every step is in the ledger before its effect. What takes long is computed while others may
    change what is in effect; then it is looked at again, and computed anew if it fits no more.
    Edits with probes are judged by the gate, and nothing else changes meanwhile. Lives on one
    event loop.
    """

    def __init__(
        self, ledger: Ledger, methods: Sequence[Method], gate: ProbeGate | None = None
    ) -> None:
        self._ledger = ledger
        self._gate = gate
        self._methods = tuple(methods)
        self._by_name: Mapping[str, Method] = {name: m for m in methods for name in m.names}
        self._succession = self._new_succession()
        self._claims = self._new_claims()
        self.lock = asyncio.Lock()
        self.progress = Progress()

    async def propose(self, proposals: Sequence[Proposal]) -> Sequence[Edit]:
        """Record new edits, all or none.

        Raises:
            UnknownEditSet: one of them names a set that there is not.
            ConflictingState: its set is frozen, or another set that default traffic sees has an
                edit of the same fact.
        """
        for proposal in proposals:
            self._require_free(proposal.request)
        edits = await asyncio.to_thread(self._ledger.propose, proposals)
        self._note(edits)
        return edits

    def require_agreement(self, edit_set: EditSet) -> None:
        """Raise ConflictingState if default traffic sees other edits of the set's facts."""
        for fact in self._claims.of(edit_set.name):
            self._require_alone(fact, edit_set.name)

    def _require_free(self, request: EditRequest) -> None:
        if request.edit_set is not None:
            edit_set = self._ledger.edit_set(request.edit_set)
            require_thawed(edit_set)
            if not edit_set.active:
                return
        self._require_alone(self._fact(request), request.edit_set)

    def _require_alone(self, fact: Hashable, home: Home) -> None:
        seen: set[Home] = {None, *(s.name for s in self._ledger.edit_sets() if s.active)}
        if others := self._claims.among(fact, seen - {home}):
            names = ", ".join(f"the active set {o!r}" if o else "no set" for o in others)
            raise ConflictingState(
                f"An edit in {names} is about the same fact, and default traffic can see one of "
                "them only: take that one back, or keep this set inactive.",
                code="conflicting_edits",
            )

    def method(self, name: str) -> Method:
        """The method that serves edits of this name, which is known to be offered."""
        return self._by_name[name]

    async def follow(self) -> None:
        """Bring into effect what the ledger says is, whoever recorded it.

        Raises:
            StoreError: it holds edits by methods that are not offered here.
            EditError: an edit cannot be brought into effect; others may have been.
        """
        async with self.lock:
            revision = self._ledger.revision
            edits = [edit for edit in self._ledger.edits() if edit.status not in ENDED]
            self._require_methods(edits)
            for method in self._methods:
                views = self._views([e for e in edits if e.request.method in method.names])
                for change in changes(method.edits_by_variant, views):
                    await method.apply(change, await method.compute(change), revision)
                for variant in method.edits_by_variant.keys() - views.keys():
                    await method.drop(variant)
            self.progress.reach(revision)

    async def take_over(self) -> list[list[Edit]]:
        """Begin to change edits, after those who did so before; returns the jobs left to do.

        Raises EditError as `follow` does.
        """
        self._succession, self._claims = self._new_succession(), self._new_claims()
        edits = [edit for edit in self._ledger.edits() if edit.status not in ENDED]
        self._note(edits)
        await self.follow()
        for method in self._methods:
            await method.tidy([e for e in edits if e.request.method in method.names])
        return self.jobs([edit for edit in edits if edit.status in UNFINISHED])

    def _new_succession(self) -> Supersession:
        return Supersession(lambda edit: (edit.request.edit_set, self._fact(edit.request)))

    def _new_claims(self) -> FactsBySet:
        return FactsBySet(lambda edit: self._fact(edit.request))

    def _views(self, edits: Sequence[Edit]) -> EditsByVariant:
        names = [BASE, *(edit_set.name for edit_set in self._ledger.edit_sets()), DEFAULT]
        views: dict[str, list[Edit]] = {name: [] for name in names}
        for edit in edits:
            if edit.status is Status.ACTIVE:
                for variant in self._variants(edit):
                    views[variant].append(edit)
        return views

    def jobs(self, edits: Sequence[Edit]) -> list[list[Edit]]:
        """The edits as they take effect together: of one kind of method, one set, one pause."""

        def kind(edit: Edit) -> Hashable:
            request = edit.request
            return self._by_name[request.method], request.edit_set, request.pause_mode

        return _by(edits, kind)

    async def activate(self, job: Sequence[Edit]) -> None:
        """Bring the edits of one job into effect in one step; if that cannot be, they fail.

        Earlier edits of the same facts are superseded with it. Edits at fault fail alone and,
        like those that are taken back meanwhile, are left out. Where nobody knows which are, each
        batch, and each edit that is in none, is tried by itself; so are those whose probes were
        answered badly while others came with them.
        """
        while job:
            try:
                await self._bring_in(job)
            except EditError as error:
                at_fault = _at_fault(job, error)
                parts = _by(job, lambda edit: edit.group)
                if len(parts) > 1 and (retries := _retries(parts, at_fault, error)):
                    for retry in retries:
                        await self.activate(retry)
                    return
                reasons = at_fault or dict.fromkeys((e.id for e in job), error.message)
                job = await self._fail(job, error, reasons)
            else:
                return

    async def _fail(
        self, job: Sequence[Edit], error: EditError, reasons: Mapping[str, str]
    ) -> Sequence[Edit]:
        """Let those fail that have reasons; returns the others that are on their way."""
        async with self.lock:
            unfinished = self._unfinished(job)
            scores = error.scores if isinstance(error, ProbesFailed) else {}
            steps = [
                Step(
                    edit.id,
                    Status.FAILED,
                    Failure(error.code, reasons[edit.id]),
                    scores=scores.get(edit.id, ()),
                )
                for edit in unfinished
                if edit.id in reasons
            ]
            failed = await self._record(steps)
            if isinstance(error, ProbesFailed):
                FAILED.inc(len(failed))
            await self._by_name[job[0].request.method].forget(failed)
        if failed:
            logger.warning("%s: %s", ", ".join(edit.id for edit in failed), error.message)
        return [edit for edit in unfinished if edit.id not in reasons]

    async def take_back(self, edit_id: str) -> Edit:
        """Take an edit back, and bring back those that it superseded.

        Raises:
            UnknownEdit: there is no such edit.
            ConflictingState: it is rolled back already, or failed and never had an effect, or its
                set is frozen.
            EditError: the rest of its batch could not be computed, or the engine refused; the
                edit is as it was.
        """
        while True:
            edit = self._alive(edit_id)
            self._require_thawed(edit)
            method = self._by_name[edit.request.method]
            active = edit.status is Status.ACTIVE
            computed = await method.compute(self._exit(edit)) if active else None
            async with self.lock:
                edit = self._alive(edit_id)
                self._require_thawed(edit)
                if edit.status is not Status.ACTIVE:
                    return await self._strike(edit)
                if active and method.ready(self._exit(edit), computed):
                    return await self._revoke(edit, computed)

    async def _bring_in(self, job: Sequence[Edit]) -> None:
        method = self._by_name[job[0].request.method]
        async with self.lock:
            job = await self._enter(self._unfinished(job), Status.COMPUTING)
        while job:
            computed = await method.compute(self._entry(job))
            async with self.lock:
                job = self._unfinished(job)
                if job and method.ready(self._entry(job), computed):
                    await self._apply(job, computed)
                    return

    async def _apply(self, job: Sequence[Edit], computed: Any) -> None:
        change, displaced = self._entry(job), self._succession.displaced(job)
        trial = await self.look(change)
        job = await self._enter(job, Status.APPLYING)
        revision = job[-1].revision
        await self._by_name[job[0].request.method].apply(change, computed, revision)
        scores = await self._judge(job, change, trial) if trial else {}
        left = [Step(i, Status.SUPERSEDED, superseded_by=by) for i, by in displaced.items()]
        come = [
            Step(edit.id, Status.ACTIVE, scores=scores.get(edit.id, ()))
            for edit in job
            if edit.id not in displaced
        ]
        *_, last = await self._record([*left, *come])
        self.progress.reach(last.revision)

    async def look(self, change: MethodChange, home: str | None = None) -> Trial | None:
        """Ask about the edits that come with probes, if any does, before they take effect.

        ``home`` is a variant in which they are in effect already. The caller holds the lock.
        Raises ProbesFailed as `ProbeGate.look` does.
        """
        judged = [edit for edit in change.coming if edit.request.probes is not None]
        if self._gate is None or not judged:
            return None
        leaving = {edit.id for edit in change.leaving}
        variant = change.variants[0]
        live = (
            edit
            for edit in reversed(self._ledger.edits())
            if edit.status is Status.ACTIVE
            and edit.id not in leaving
            and variant in self._variants(edit)
        )
        return await self._gate.look(change.coming, variant, live, home)

    async def judge(self, trial: Trial) -> Scores:
        """Ask again, when the edits have taken effect; raises as `ProbeGate.judge` does."""
        assert self._gate is not None  # noqa: S101
        return await self._gate.judge(trial)

    async def _judge(self, job: Sequence[Edit], change: MethodChange, trial: Trial) -> Scores:
        """Ask again; after ProbesFailed the edits are not in effect any more."""
        try:
            return await self.judge(trial)
        except ProbesFailed as failed:
            # With a revision of its own: weights are named after it.
            job = await self._enter(job, Status.COMPUTING)
            method, back = self._by_name[job[0].request.method], change.reverse
            try:
                await method.apply(back, await method.compute(back), job[-1].revision)
            except EditError as error:
                ids = ", ".join(failed.reasons)
                logger.error("%s cannot be taken back: %s", ids, error.message)  # noqa: TRY400
                return failed.scores
            raise

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
        self.progress.reach(revoked.revision)
        await method.forget([revoked])
        return revoked

    def _entry(self, job: Sequence[Edit]) -> MethodChange:
        displaced = self._succession.displaced(job)
        earlier = [self._ledger.get(edit_id) for edit_id in displaced]
        return MethodChange(
            coming=[edit for edit in job if edit.id not in displaced],
            leaving=[edit for edit in earlier if edit.status is Status.ACTIVE],
            variants=self._variants(job[0]),
            pause_mode=job[0].request.pause_mode,
        )

    def _exit(self, edit: Edit) -> MethodChange:
        earlier = self._succession.predecessors(edit.id)
        return MethodChange(
            coming=[self._ledger.get(edit_id) for edit_id in earlier],
            leaving=[edit],
            variants=self._variants(edit),
            pause_mode=edit.request.pause_mode,
        )

    def _variants(self, edit: Edit) -> tuple[str, ...]:
        name = edit.request.edit_set
        return (DEFAULT,) if name is None else self._ledger.edit_set(name).variants

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

    def _require_thawed(self, edit: Edit) -> None:
        if edit.request.edit_set is not None:
            require_thawed(self._ledger.edit_set(edit.request.edit_set))

    def _unfinished(self, edits: Sequence[Edit]) -> Sequence[Edit]:
        """Those that nobody has taken back meanwhile."""
        now = [self._ledger.get(edit.id) for edit in edits]
        return [edit for edit in now if edit.status in UNFINISHED]

    def _fact(self, request: EditRequest) -> Hashable:
        """What an edit is about, by methods that can say it at once."""
        method = self._by_name[request.method]
        return method, method.fact(request)

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
        self._note(edits)
        return edits

    async def record_set(
        self, edit_set: EditSet, steps: Sequence[Step], deleted: bool = False
    ) -> EditSet:
        """Record a set and steps of its edits, all or none; the caller holds the lock."""
        after = await asyncio.to_thread(self._ledger.record_set, edit_set, steps, deleted)
        self._note(self._ledger.get(step.edit_id) for step in steps)
        return after

    def _note(self, edits: Iterable[Edit]) -> None:
        for edit in edits:
            self._succession.note(edit)
            self._claims.note(edit)


def _by(edits: Sequence[Edit], key: Callable[[Edit], Hashable]) -> list[list[Edit]]:
    """The edits with equal keys together, in the order in which the keys first come."""
    parts: dict[Hashable, list[Edit]] = {}
    for edit in edits:
        parts.setdefault(key(edit), []).append(edit)
    return list(parts.values())


def _at_fault(job: Sequence[Edit], error: EditError) -> Mapping[str, str]:
    """What the error says of edits of this job."""
    if not isinstance(error, ComputeFailed):
        return {}
    return {edit.id: error.reasons[edit.id] for edit in job if edit.id in error.reasons}


def _retries(
    parts: Sequence[Sequence[Edit]], at_fault: Mapping[str, str], error: EditError
) -> list[list[Edit]]:
    """Groups of these parts of a job to be tried after it failed, if it is no use to go on."""
    if not at_fault:
        return [[*part] for part in parts]
    if not isinstance(error, ProbesFailed) or not error.apart:
        return []
    retries: list[list[Edit]] = []
    for faulty, run in groupby(parts, lambda part: any(edit.id in at_fault for edit in part)):
        found = [[*part] for part in run]
        retries += found if faulty else [[edit for part in found for edit in part]]
    return retries
