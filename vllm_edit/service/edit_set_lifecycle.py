"""The life of an edit set: created, active in default traffic or not, frozen or not, deleted."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from vllm_edit.domain.edit import ENDED, Edit, Status, Step
from vllm_edit.domain.edit_set import EditSet, check_name, require_thawed
from vllm_edit.domain.errors import AnsweredBadly, ConflictingState, EditError, ProbesFailed
from vllm_edit.domain.method import Method, MethodChange
from vllm_edit.domain.own_answers import OwnAnswers
from vllm_edit.domain.probe import Probes
from vllm_edit.domain.variant import DEFAULT
from vllm_edit.ledger import Ledger
from vllm_edit.probes.gate import Baseline
from vllm_edit.service.edit_lifecycle import EditLifecycle

logger = logging.getLogger(__name__)

Changes = Sequence[tuple[Method, MethodChange]]
Computed = Mapping[Method, Any]


class EditSetLifecycle:
    """Changes edit sets as `EditLifecycle` changes edits: in the ledger first, then in effect.

    Shares the lock of ``edits``. The caller must not let edits be proposed meanwhile.
    """

    def __init__(self, ledger: Ledger, edits: EditLifecycle, methods: Sequence[Method]) -> None:
        self._ledger = ledger
        self._edits = edits
        # Slow methods are likelier to fail: they come first, so that less has to be undone.
        self._methods = sorted(methods, key=lambda method: not method.queued)

    async def create(self, name: str, owner: str | None, probes: Probes | None = None) -> EditSet:
        """Make an empty set, which is not active.

        Raises:
            InvalidEditSet: no set can have that name.
            ConflictingState: a set of that name exists.
            EditError: the engine refused; there is no such set.
        """
        check_name(name)
        async with self._edits.lock:
            if self._ledger.has_edit_set(name):
                raise ConflictingState(
                    f"There is an edit set {name!r} already.", code="edit_set_exists"
                )
            async with self._edits.settling.changing():
                created = await self._edits.record_set(EditSet.new(name, owner, probes))
                try:
                    for method in self._methods:
                        change = MethodChange(variants=(name,))
                        await method.apply(change, await method.compute(change), created.revision)
                except EditError:
                    await self._edits.record_set(created, deleted=True)
                    raise
                self._edits.progress.advance(created.revision)
        return created

    async def freeze(self, name: str, frozen: bool) -> EditSet:
        """Let no edit join or leave the set, or let them again; raises UnknownEditSet."""
        async with self._edits.lock, self._edits.settling.changing():
            changed = replace(self._ledger.edit_set(name), frozen=frozen)
            after = await self._edits.record_set(changed)
            self._edits.progress.advance(after.revision)
        return after

    async def activate(self, name: str, active: bool) -> EditSet:
        """Show the set's edits to default traffic, or hide them from it.

        Edits are asked and judged there, beside what else default traffic sees.

        Raises:
            UnknownEditSet: there is no such set.
            ConflictingState: it has an owner, or default traffic sees edits of the same facts.
            AnsweredBadly: an edit is not told or its probes were answered badly; everything is as
                it was.
            EditError: the engine refused; everything is as it was.
        """
        while True:
            changes = self._changes(name, (DEFAULT,), adding=active)
            computed = {method: await method.compute(change) for method, change in changes}
            async with self._edits.lock:
                before = self._ledger.edit_set(name)
                if before.active == active:
                    return before
                if active:
                    _require_shared(before)
                    self._edits.conflicts.require_no_conflict(before)
                changes = self._changes(name, (DEFAULT,), adding=active)
                if not _ready(changes, computed):
                    continue
                async with self._edits.settling.changing():
                    after = await self._change_default(before, changes, computed, active)
                self._edits.progress.advance(after.revision)
                return after

    async def _change_default(
        self, before: EditSet, changes: Changes, computed: Computed, active: bool
    ) -> EditSet:
        leaving = [edit for _, change in changes for edit in change.leaving]
        places = self._edits.telling.places(leaving)
        changed = replace(before, active=active)
        if active:
            baseline = await self._take_baseline(changes, before.name)
            told = await self._apply_and_examine(before, changes, computed, baseline)
            steps = [Step(edit_id, Status.ACTIVE, told=said) for edit_id, said in told.items()]
            after = await self._edits.record_set(changed, steps)
            coming = (edit.id for _, change in changes for edit in change.coming)
            self._edits.telling.ask_later(edit_id for edit_id in coming if edit_id not in told)
        else:
            after = await self._edits.record_set(changed)
            try:
                await self._apply(changes, computed, after.revision)
            except EditError:
                await self._edits.record_set(before)
                raise
            # From now on they are asked as the set's variant.
            self._edits.telling.ask_later(edit.id for edit in leaving)
        for method, change in changes:
            self._edits.follow_up(method, change, places)
        return after

    async def _take_baseline(self, changes: Changes, name: str) -> Baseline | None:
        change = MethodChange([edit for _, change in changes for edit in change.coming])
        try:
            return await self._edits.judging.take_baseline(change, set_variant=name)
        except ProbesFailed as failed:
            raise _set_failed(name, failed) from failed

    async def _apply_and_examine(
        self, before: EditSet, changes: Changes, computed: Computed, baseline: Baseline | None
    ) -> Mapping[str, OwnAnswers]:
        """Apply the changes, ask about them and judge them; before AnsweredBadly is raised, they
        are reversed. Returns the answers to the edits' own prompts.

        Until then the set is not active in the ledger: edits that were not judged must not be in
        effect after a restart.
        """
        revision = (await self._edits.record_set(before)).revision
        await self._apply(changes, computed, revision)
        told: dict[str, OwnAnswers] = {}
        try:
            for _, change in changes:
                told |= await self._edits.telling.ask(change, revision, settled=True)
            await self._edits.judging.judge(baseline)
        except AnsweredBadly as bad:
            reverse = [(method, change.reverse) for method, change in reversed(changes)]
            computed = {method: await method.compute(change) for method, change in reverse}
            try:
                await self._apply(reverse, computed, self._edits.progress.revision)
            except EditError as error:
                logger.error("%s stays active: %s", before.name, error.message)  # noqa: TRY400
                return {**told, **bad.told}
            raise _set_failed(before.name, bad) from bad
        return told

    async def delete(self, name: str) -> EditSet:
        """Roll back all edits of the set, in one step, and delete it.

        Raises:
            UnknownEditSet: there is no such set.
            ConflictingState: it is frozen, or default traffic is split over it.
            EditError: the engine refused; everything is as it was.
        """
        async with self._edits.lock:
            edit_set = self._ledger.edit_set(name)
            require_thawed(edit_set)
            self._require_not_in_split(edit_set)
            edits = [edit for edit in self._edits_of(name) if edit.status not in ENDED]
            changes = self._changes(name, edit_set.variants, adding=False)
            computed = {method: await method.compute(change) for method, change in changes}
            places = self._edits.telling.places(e for e in edits if e.status is Status.ACTIVE)
            async with self._edits.settling.changing():
                after = await self._record_and_end(edit_set, edits, changes, computed)
            self._edits.progress.advance(after.revision)
            for method, change in changes:
                others = [variant for variant in change.variants if variant != name]
                self._edits.follow_up(method, replace(change, variants=others), places)
            for method in self._methods:
                await method.forget([e for e in edits if e.request.method in method.names])
        return after

    async def _record_and_end(
        self, edit_set: EditSet, edits: Sequence[Edit], changes: Changes, computed: Computed
    ) -> EditSet:
        steps = [Step(edit.id, Status.ROLLED_BACK) for edit in edits]
        after = await self._edits.record_set(edit_set, steps, deleted=True)
        try:
            await self._apply(changes, computed, after.revision)
        except EditError:
            undone = [Step(e.id, e.status, superseded_by=e.superseded_by) for e in edits]
            await self._edits.record_set(edit_set, undone)
            raise
        for method in self._methods:
            await method.drop(edit_set.name)
        return after

    def _require_not_in_split(self, edit_set: EditSet) -> None:
        split = self._ledger.split
        if split is not None and edit_set.name in split.weights:
            raise ConflictingState(
                f"Default traffic is split over {edit_set.name!r}: change the split first.",
                code="edit_set_in_use",
            )

    def _changes(self, name: str, variants: Sequence[str], adding: bool) -> Changes:
        """By method, the changes that add the active edits of a set to variants or remove them."""
        active = [edit for edit in self._edits_of(name) if edit.status is Status.ACTIVE]
        changes = []
        for method in self._methods:
            if edits := [edit for edit in active if edit.request.method in method.names]:
                change = MethodChange(coming=edits, variants=variants)
                changes.append((method, change if adding else change.reverse))
        return changes

    def _edits_of(self, name: str) -> list[Edit]:
        """The edits of a set; raises UnknownEditSet."""
        self._ledger.edit_set(name)
        return [edit for edit in self._ledger.edits() if edit.request.edit_set == name]

    async def _apply(self, changes: Changes, computed: Computed, revision: int) -> None:
        """Make every method's change effective; after an error, `changing` undoes those made."""
        for method, change in changes:
            await method.apply(change, computed[method], revision)


def _ready(changes: Changes, computed: Computed) -> bool:
    return all(m in computed and m.ready(change, computed[m]) for m, change in changes)


def _set_failed(name: str, bad: AnsweredBadly) -> AnsweredBadly:
    (edit_id, reason), *others = bad.reasons.items()
    more = f" So it is with {len(others)} more." if others else ""
    return type(bad)(
        f"The edit set {name!r} is not active: in default traffic {edit_id} falls short. "
        f"{reason}{more}",
        reasons=bad.reasons,
        scores=bad.scores,
        told=bad.told,
    )


def _require_shared(edit_set: EditSet) -> None:
    if edit_set.owner is not None:
        raise ConflictingState(
            f"The edit set {edit_set.name!r} belongs to {edit_set.owner!r}, and what belongs to "
            "one tenant is not shown to all.",
            code="owned_edit_set",
        )
