"""The service that the API and other servers change edits through."""

import asyncio
import logging
import secrets
from collections.abc import Coroutine, Sequence
from dataclasses import replace
from typing import Any, TypeVar, assert_never

from vllm_edit.domain.edit import Edit, EditRequest, Proposal
from vllm_edit.domain.edit_set import EditSet
from vllm_edit.domain.errors import EditError, InvalidSplit, QueueFull, UnknownVariant
from vllm_edit.domain.method import Method
from vllm_edit.domain.neuron import Neuron
from vllm_edit.domain.own_answers import OwnAnswers
from vllm_edit.domain.probe import Probes
from vllm_edit.domain.traffic_split import TrafficSplit
from vllm_edit.domain.variant import BASE, DEFAULT, RESERVED
from vllm_edit.ledger import Event, Ledger
from vllm_edit.memory.variant_memory import MEMPROMPT
from vllm_edit.probes.gate import ProbeGate
from vllm_edit.probes.teller import Teller
from vllm_edit.processes.supervision import in_background, report_fault, supervised
from vllm_edit.service.commands import (
    ActivateSet,
    CreateSet,
    DeleteSet,
    EditCommand,
    FreezeSet,
    RollBack,
    SetCommand,
    Submit,
)
from vllm_edit.service.edit_lifecycle import EditLifecycle
from vllm_edit.service.edit_set_lifecycle import EditSetLifecycle
from vllm_edit.service.metrics import QUEUE
from vllm_edit.service.telling import MOST_AT_ONCE
from vllm_edit.service.validation import EditValidator
from vllm_edit.settings import Settings

logger = logging.getLogger(__name__)

T = TypeVar("T")

MAX_QUEUE = Settings().max_queue
_RETRY_SECONDS = 5.0
MEND_SECONDS = 5.0
"""How long after a failure it is tried again to serve and to finish what the ledger holds."""


class EditService:
    """Accepts edits, brings them into effect and rolls them back.

    Every step is in the ledger before its effect, and in effect before the answer, so that an
    acknowledged edit survives a killed process. Edits that cannot be finished because the ledger
    cannot be written are returned as they are, and finished later. A command runs to its end even
    if its caller is cancelled. At most ``max_queue`` edits wait or are computed. ``gate`` judges
    edits with probes; ``probes`` are those of weight edits that have no others. ``teller`` asks
    edits in effect their own prompts; at most ``told_again`` are asked again after a change. Lives
    on one event loop.
    """

    def __init__(
        self,
        ledger: Ledger,
        methods: Sequence[Method],
        validator: EditValidator,
        max_queue: int = MAX_QUEUE,
        gate: ProbeGate | None = None,
        probes: Probes | None = None,
        teller: Teller | None = None,
        told_again: int = MOST_AT_ONCE,
    ) -> None:
        self._ledger = ledger
        self._methods = tuple(methods)
        self._validator = validator
        self._max_queue = max_queue
        self._probes = probes
        self._lifecycle = EditLifecycle(ledger, methods, gate, teller, told_again)
        self._sets = EditSetLifecycle(ledger, self._lifecycle, methods)
        self._proposing = asyncio.Lock()
        self._finished: dict[str, asyncio.Event] = {}
        self._queue: asyncio.Queue[Sequence[Edit]] = asyncio.Queue()
        self._tasks: list[asyncio.Task[None]] = []
        self._leading: list[asyncio.Task[None]] = []

    @property
    def served_revision(self) -> int:
        """Revision of the latest change that is in effect; 0 before the first."""
        return self._lifecycle.progress.revision

    @property
    def settled(self) -> bool:
        """Whether what is served is known to be what is recorded; after a failure, not at once."""
        return not self._lifecycle.settling.unsettled.is_set()

    @property
    def astray(self) -> bool:
        """Whether something else may be served than what is recorded."""
        return self._lifecycle.settling.astray is not None

    def labels(self, variant: str) -> list[str]:
        """Names of the methods that affect every answer of a variant (weight edits)."""
        return [label for method in self._methods for label in method.labels(variant)]

    async def start(self) -> None:
        """Bring into effect what the ledger records as active.

        Raises EditError if that fails; then nothing must be served.
        """
        await self._lifecycle.apply_ledger()
        self._tasks += [in_background("preparation", method.prepare) for method in self._methods]

    async def lead(self) -> None:
        """Finish the edits that were left unfinished, and accept new ones from now on.

        The caller leads the ledger. Raises EditError if the store cannot be brought into effect.
        """
        for job in await self._lifecycle.resume():
            await self._activate(job)
        self._leading = [
            supervised("edits", self._work),
            supervised("telling", self._lifecycle.ask_again),
            supervised("mending", self._mend),
        ]

    async def step_down(self) -> None:
        """Change nothing any more, as another server leads; `follow` from now on.

        Edits that wait are returned to those who wait for them as they are; whoever leads finishes
        them.
        """
        await asyncio.to_thread(self._ledger.step_down)
        # While this has the lock, nothing is taking effect, so nothing is left half done.
        async with self._lifecycle.lock:
            await _cancel(self._leading)
        self._leading = []
        self._queue = asyncio.Queue()
        for event in self._finished.values():
            event.set()
        self._finished.clear()

    @property
    def revision(self) -> int:
        """Revision of the latest change known here."""
        return self._ledger.revision

    async def reached(self, revision: int) -> None:
        """Wait until every change up to this revision is in effect here."""
        await self._lifecycle.progress.wait_for(revision)

    async def follow(self) -> None:
        """Bring into effect what another server has recorded since; raises EditError."""
        await asyncio.to_thread(self._ledger.catch_up)
        await self._lifecycle.apply_ledger()

    async def stop(self) -> None:
        """Stop and close the store; the next start resumes unfinished edits."""
        await _cancel([*self._tasks, *self._leading])
        for method in self._methods:
            await method.close()
        self._ledger.close()

    @property
    def distinguishes(self) -> bool:
        """Whether variants can differ: not before the first event."""
        return self._ledger.revision > 0

    async def history(self, after: int, limit: int, subject: str | None = None) -> list[Event]:
        """The first changes after a revision, of everything or of one edit or edit set."""
        if subject is not None and "\0" in subject:
            return []  # a character that PostgreSQL does not take, and nothing is called so
        return await asyncio.to_thread(self._ledger.log.first, after, limit, subject)

    def edits(self) -> list[Edit]:
        """All edits, oldest first, as they are here: those that cannot be in effect wait."""
        return self._lifecycle.held_back.all_shown(self._ledger.edits())

    def get(self, edit_id: str) -> Edit:
        """One edit, as it is here; raises UnknownEdit."""
        return self._lifecycle.held_back.shown(self._ledger.get(edit_id))

    def warnings(self, edit_id: str) -> list[str]:
        """What a user should know about an edit in effect; empty for others."""
        warnings = [warning for method in self._methods for warning in method.warnings(edit_id)]
        return warnings + self._lifecycle.telling.warnings(self.get(edit_id))

    def told(self, edit_id: str) -> OwnAnswers | None:
        """What the server answered to the edit's prompt when it was last asked."""
        return self._lifecycle.telling.told(self._ledger.get(edit_id))

    def drift(self, edit_id: str) -> float | None:
        """The drift of weight edits with this one, in nats; None unless it is one in effect."""
        drifts = (method.drift(edit_id) for method in self._methods)
        return next((drift for drift in drifts if drift is not None), None)

    def neurons(self, edit_id: str) -> list[Neuron]:
        """The neurons that an edit in effect changes, if its method names them."""
        return [neuron for method in self._methods for neuron in method.neurons(edit_id)]

    def edit_sets(self) -> list[EditSet]:
        """All edit sets, oldest first."""
        return self._ledger.edit_sets()

    def edit_set(self, name: str) -> EditSet:
        """One edit set; raises UnknownEditSet."""
        return self._ledger.edit_set(name)

    def edits_of(self, owner: str) -> int:
        """How many edits in a tenant's sets have not ended."""
        return sum(
            self._ledger.unended_in(edit_set.name)
            for edit_set in self._ledger.edit_sets()
            if edit_set.owner == owner
        )

    @property
    def split(self) -> TrafficSplit | None:
        """How default traffic is split over variants, or None."""
        return self._ledger.split

    async def change_edits(self, command: EditCommand) -> list[Edit]:
        """Submit edits or roll one back; see `submit` and `roll_back`."""
        match command:
            case Submit(requests, wait):
                return await self.submit(requests, wait)
            case RollBack(edit_id, erase=True):
                return [await asyncio.shield(self._lifecycle.erase(edit_id))]
            case RollBack(edit_id):
                return [await self.roll_back(edit_id)]
            case _:
                assert_never(command)

    async def submit(self, requests: Sequence[EditRequest], wait: bool) -> list[Edit]:
        """Record new edits, all or none, and start them.

        Returns them at once, or with ``wait`` when each is active or has failed. Edits of one
        batch method become one batch, computed and brought into effect together.

        Raises, and records none of them:
            InvalidEdit: one breaks a rule, or two exclude each other.
            UnknownEditSet: the set of one does not exist.
            ConflictingState: a set is frozen, or default traffic would see two edits of a fact.
            QueueFull: too many edits are waiting.
        """
        self._check(requests)
        edits, quick = await asyncio.shield(self._propose(requests))
        for job in quick:
            await asyncio.shield(self._activate(job))
        if wait:
            for edit in edits:
                if event := self._finished.get(edit.id):
                    await event.wait()
        return [self._ledger.get(edit.id) for edit in edits]

    async def roll_back(self, edit_id: str) -> Edit:
        """Roll an edit back; an unfinished one never takes effect.

        The edits that it superseded come back. The rest of its batch is computed again, which
        takes as long as an edit does. Raises as `EditLifecycle.roll_back` does.
        """
        return await asyncio.shield(self._lifecycle.roll_back(edit_id))

    async def change_set(self, command: SetCommand) -> EditSet:
        """Create, freeze, activate or delete an edit set; returns it as it is then.

        Raises what the method of `EditSetLifecycle` does, and InvalidEdit for invalid probes.
        """
        match command:
            case CreateSet(name, owner, probes):
                if probes is not None:
                    self._validator.check_probes(probes)
                change = self._sets.create(name, owner, probes)
            case FreezeSet(name, frozen):
                change = self._sets.freeze(name, frozen)
            case ActivateSet(name, active):
                change = self._sets.activate(name, active)
            case DeleteSet(name):
                change = self._sets.delete(name)
            case _:
                assert_never(command)
        return await self._while_no_edit_joins(change)

    async def set_split(self, split: TrafficSplit | None) -> None:
        """Split default traffic over variants; None ends the split.

        Raises:
            UnknownVariant: there is no variant of that name.
            InvalidSplit: a variant belongs to one tenant.
        """
        for variant in split.weights if split else ():
            self._require_shared(variant)
        await self._while_no_edit_joins(self._lifecycle.record_split(split))

    def _require_shared(self, variant: str) -> None:
        if variant in RESERVED:
            return
        if not self._ledger.has_edit_set(variant):
            raise UnknownVariant(
                f"There is no variant {variant!r}: name {BASE}, {DEFAULT} or an edit set.",
                field="weights",
            )
        if self._ledger.edit_set(variant).owner is not None:
            raise InvalidSplit(
                f"The edit set {variant!r} belongs to one tenant; default traffic cannot see it.",
                field="weights",
            )

    async def _while_no_edit_joins(self, change: Coroutine[Any, Any, T]) -> T:
        """Run a change to its end, even if the caller is cancelled, with no edit proposed."""

        async def locked() -> T:
            async with self._proposing:
                return await change

        return await asyncio.shield(locked())

    async def _propose(
        self, requests: Sequence[EditRequest]
    ) -> tuple[Sequence[Edit], Sequence[Sequence[Edit]]]:
        """Record edits and queue their jobs, in one order; returns them and the unqueued jobs."""
        quick = []
        async with self._proposing:
            self._require_room(requests)
            complete = [self._with_probes(request) for request in requests]
            edits = await self._lifecycle.propose(self._proposals(complete))
            for job in self._lifecycle.jobs(edits):
                if self._lifecycle.method(job[0].request.method).queued:
                    self._finished |= {edit.id: asyncio.Event() for edit in job}
                    QUEUE.set(len(self._finished))
                    self._queue.put_nowait(job)
                else:
                    quick.append(job)
        return edits, quick

    def _check(self, requests: Sequence[EditRequest]) -> None:
        for request in requests:
            self._validator.check(request)
        for method in self._methods:
            method.check([request for request in requests if request.method in method.names])

    def _with_probes(self, request: EditRequest) -> EditRequest:
        """With the probes of its set or of the server, if it has none."""
        # The right answer after feedback (MemPrompt) is not known.
        if request.probes is not None or request.method == MEMPROMPT:
            return request
        probes = None
        if request.edit_set is not None:
            probes = self._ledger.edit_set(request.edit_set).probes
        if probes is None and self._lifecycle.method(request.method).queued:
            probes = self._probes
        return replace(request, probes=probes)

    def _require_room(self, requests: Sequence[EditRequest]) -> None:
        queued = sum(self._lifecycle.method(request.method).queued for request in requests)
        waiting = len(self._finished)
        if queued and waiting + queued > self._max_queue:
            raise QueueFull(
                f"{waiting} edits are waiting, {queued} more are asked for, and at most "
                f"{self._max_queue} may wait; send fewer, or again later.",
                retry_after=_RETRY_SECONDS,
            )

    def _proposals(self, requests: Sequence[EditRequest]) -> list[Proposal]:
        names = {name for method in self._methods for name in method.batched}
        batches = {
            (request.method, request.edit_set): f"batch-{secrets.token_hex(8)}"
            for request in requests
            if request.method in names
        }
        return [
            Proposal(
                f"edit-{secrets.token_hex(8)}",
                request,
                batches.get((request.method, request.edit_set)),
            )
            for request in requests
        ]

    async def _work(self) -> None:
        while True:
            waiting = [*await self._queue.get()]
            while not self._queue.empty():
                waiting += self._queue.get_nowait()
            # All that wait take effect together, in one pause of the engine.
            for job in self._lifecycle.jobs(waiting):
                await self._activate(job)

    async def _activate(self, job: Sequence[Edit]) -> None:
        """Raises nothing: edits that cannot even fail, as the ledger cannot be written, stay
        unfinished in it, and `_mend` resumes them."""
        try:
            await self._lifecycle.activate(job)
        except Exception as error:  # noqa: BLE001 - the jobs behind this one must have their turn
            logger.warning("%s: left as they are.", ", ".join(edit.id for edit in job))
            report_fault("edits", error)
            self._lifecycle.settling.unsettled.set()
        finally:
            for edit in job:
                if event := self._finished.pop(edit.id, None):
                    event.set()
            QUEUE.set(len(self._finished))

    async def _mend(self) -> None:
        """After a failed write or effect, bring everything to where the ledger says it is."""
        while True:
            await self._lifecycle.settling.unsettled.wait()
            await asyncio.sleep(MEND_SECONDS)
            try:
                unfinished = await self._lifecycle.mend()
            except EditError:
                continue  # it is logged, and tried again
            left = [edit for edit in unfinished if edit.id not in self._finished]
            for job in self._lifecycle.jobs(left):
                await self._activate(job)


async def _cancel(tasks: Sequence[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
