"""The life of an edit set: created, active in default traffic or not, frozen or not, deleted."""

import asyncio
import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from vllm_edit.domain.edit import ENDED, Edit, Status, Step
from vllm_edit.domain.edit_set import EditSet, check_name, require_thawed
from vllm_edit.domain.errors import ConflictingState, EditError, ProbesFailed
from vllm_edit.domain.method import Method, MethodChange
from vllm_edit.domain.probe import Probes
from vllm_edit.domain.variant import DEFAULT
from vllm_edit.ledger import Ledger
from vllm_edit.probes.gate import Trial
from vllm_edit.service.edit_lifecycle import EditLifecycle

logger = logging.getLogger(__name__)

Changes = Sequence[tuple[Method, MethodChange]]


class EditSetLifecycle:
    """Changes edit sets as ``EditLifecycle`` does edits: in the ledger first, then in effect.

    Shares its lock. The caller sees to it that no edit is proposed meanwhile.
    """

    def __init__(self, ledger: Ledger, lifecycle: EditLifecycle, methods: Sequence[Method]) -> None:
        self._ledger = ledger
        self._lifecycle = lifecycle
        # What may well fail comes first, so that less is to be taken back then.
        self._methods = sorted(methods, key=lambda method: not method.queued)

    async def create(self, name: str, owner: str | None, probes: Probes | None = None) -> EditSet:
        """Make an empty set, which is not active.

        Raises:
            InvalidEditSet: no set can have that name.
            ConflictingState: there is one already.
        """
        check_name(name)
        async with self._lifecycle.lock:
            if self._ledger.has_edit_set(name):
                raise ConflictingState(
                    f"There is an edit set {name!r} already.", code="edit_set_exists"
                )
            made = await self._record(EditSet.new(name, owner, probes))
            for method in self._methods:
                change = MethodChange(variants=(name,))
                await method.apply(change, await method.compute(change), made.revision)
            self._lifecycle.progress.reach(made.revision)
        return made

    async def freeze(self, name: str, frozen: bool) -> EditSet:
        """Let no edit join or leave the set, or let them again; raises UnknownEditSet."""
        async with self._lifecycle.lock:
            after = await self._record(replace(self._ledger.edit_set(name), frozen=frozen))
            self._lifecycle.progress.reach(after.revision)
        return after

    async def activate(self, name: str, active: bool) -> EditSet:
        """Bring the set's edits into what default traffic sees, or take them out of it.

        Those that have probes are judged there, beside what else default traffic sees.

        Raises:
            UnknownEditSet: there is no such set.
            ConflictingState: it has an owner, or default traffic sees edits of the same facts.
            ProbesFailed: an edit's probes were answered badly; everything is as it was.
            EditError: the engine refused; everything is as it was.
        """
        while True:
            computed = {m: await m.compute(c) for m, c in self._move(name, active)}
            async with self._lifecycle.lock:
                before = self._ledger.edit_set(name)
                if before.active == active:
                    return before
                if active:
                    _require_shared(before)
                    self._lifecycle.require_agreement(before)
                changes = self._move(name, active)
                if not _ready(changes, computed):
                    continue
                if trial := await self._look(changes, name):
                    await self._try(before, changes, computed, trial)
                    after = await self._record(replace(before, active=active))
                else:
                    after = await self._record(replace(before, active=active))
                    try:
                        await self._apply(changes, computed, after.revision)
                    except EditError:
                        await self._record(before)
                        raise
                self._lifecycle.progress.reach(after.revision)
                return after

    async def _look(self, changes: Changes, name: str) -> Trial | None:
        """Ask what judges the edits that come with the changes, before they take effect."""
        coming = [edit for _, change in changes for edit in change.coming]
        try:
            return await self._lifecycle.look(MethodChange(coming, variants=(DEFAULT,)), home=name)
        except ProbesFailed as failed:
            raise _refused(name, failed) from failed

    async def _try(
        self, before: EditSet, changes: Changes, computed: Mapping[Method, Any], trial: Trial
    ) -> None:
        """Make the changes effective and judge them; after ProbesFailed they are not any more.

        For the ledger the set is not active until then: what was not judged yet does not come
        back with a server that was killed.
        """
        await self._apply(changes, computed, (await self._record(before)).revision)
        try:
            await self._lifecycle.judge(trial)
        except ProbesFailed as failed:
            back = [(method, change.reverse) for method, change in reversed(changes)]
            undone = {method: await method.compute(change) for method, change in back}
            try:
                await self._apply(back, undone, (await self._record(before)).revision)
            except EditError as error:
                logger.error("%s stays active: %s", before.name, error.message)  # noqa: TRY400
                return
            raise _refused(before.name, failed) from failed

    async def delete(self, name: str) -> EditSet:
        """Take back all edits of the set, in one step, and end it.

        Raises:
            UnknownEditSet: there is no such set.
            ConflictingState: it is frozen, or default traffic is split over it.
            EditError: the engine refused; everything is as it was.
        """
        async with self._lifecycle.lock:
            edit_set = self._ledger.edit_set(name)
            require_thawed(edit_set)
            self._require_unused(edit_set)
            alive = [edit for edit in self._edits(name) if edit.status not in ENDED]
            changes = self._all(name, edit_set.variants, coming=False)
            computed = {method: await method.compute(change) for method, change in changes}
            ended = [Step(edit.id, Status.ROLLED_BACK) for edit in alive]
            after = await self._lifecycle.record_set(edit_set, ended, deleted=True)
            try:
                await self._apply(changes, computed, after.revision)
            except EditError:
                back = [Step(e.id, e.status, superseded_by=e.superseded_by) for e in alive]
                await self._lifecycle.record_set(edit_set, back)
                raise
            self._lifecycle.progress.reach(after.revision)
            for method in self._methods:
                await method.drop(name)
                await method.forget([e for e in alive if e.request.method in method.names])
        return after

    def _require_unused(self, edit_set: EditSet) -> None:
        split = self._ledger.split
        if split is not None and edit_set.name in split.weights:
            raise ConflictingState(
                f"Default traffic is split over {edit_set.name!r}: change the split first.",
                code="edit_set_in_use",
            )

    def _move(self, name: str, active: bool) -> Changes:
        return self._all(name, (DEFAULT,), coming=active)

    def _all(self, name: str, variants: Sequence[str], coming: bool) -> Changes:
        """The active edits of a set, by method, as they come into variants or leave them."""
        active = [edit for edit in self._edits(name) if edit.status is Status.ACTIVE]
        changes = []
        for method in self._methods:
            if mine := [edit for edit in active if edit.request.method in method.names]:
                change = MethodChange(coming=mine, variants=variants)
                changes.append((method, change if coming else change.reverse))
        return changes

    def _edits(self, name: str) -> list[Edit]:
        self._ledger.edit_set(name)
        return [edit for edit in self._ledger.edits() if edit.request.edit_set == name]

    async def _apply(self, changes: Changes, computed: Mapping[Method, Any], revision: int) -> None:
        """Make every method's change effective, or none."""
        done = []
        try:
            for method, change in changes:
                await method.apply(change, computed[method], revision)
                done.append((method, change.reverse))
        except EditError:
            for method, change in reversed(done):
                await method.apply(change, await method.compute(change), revision)
            raise

    async def _record(self, edit_set: EditSet) -> EditSet:
        return await asyncio.to_thread(self._ledger.record_set, edit_set)


def _ready(changes: Changes, computed: Mapping[Method, Any]) -> bool:
    return all(m in computed and m.ready(change, computed[m]) for m, change in changes)


def _refused(name: str, failed: ProbesFailed) -> ProbesFailed:
    (edit_id, reason), *others = failed.reasons.items()
    more = f" So it is with {len(others)} more." if others else ""
    return ProbesFailed(
        f"The edit set {name!r} is not active: in default traffic {edit_id} falls short. "
        f"{reason}{more}",
        reasons=failed.reasons,
        scores=failed.scores,
    )


def _require_shared(edit_set: EditSet) -> None:
    if edit_set.owner is not None:
        raise ConflictingState(
            f"The edit set {edit_set.name!r} belongs to {edit_set.owner!r}, and what belongs to "
            "one tenant is not shown to all.",
            code="owned_edit_set",
        )
