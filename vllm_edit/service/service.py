"""What the server's front does with edits: takes them in, keeps them going, takes them back."""

import asyncio
import logging
import secrets
from collections.abc import Coroutine, Sequence
from dataclasses import replace
from typing import Any, TypeVar

from vllm_edit.domain.edit import Edit, EditRequest, Proposal
from vllm_edit.domain.edit_set import EditSet
from vllm_edit.domain.errors import EditError, InvalidSplit, QueueFull, StoreError, UnknownVariant
from vllm_edit.domain.method import Method
from vllm_edit.domain.probe import Probes
from vllm_edit.domain.traffic_split import TrafficSplit
from vllm_edit.domain.variant import BASE, DEFAULT, RESERVED
from vllm_edit.ledger import Ledger
from vllm_edit.memory.variant_memory import MEMPROMPT
from vllm_edit.probes.gate import ProbeGate
from vllm_edit.service.edit_lifecycle import EditLifecycle
from vllm_edit.service.edit_set_lifecycle import EditSetLifecycle
from vllm_edit.service.validation import EditValidator
from vllm_edit.settings import Settings

logger = logging.getLogger(__name__)

T = TypeVar("T")

MAX_QUEUE = Settings().max_queue
_RETRY_SECONDS = 5.0


class EditService:
    """Takes edits in, makes them effective, takes them back.

    Every step is in the ledger before its effect, and the effect is there before the answer, so
    an acknowledged edit survives a killed process. At most ``max_queue`` edits wait for their
    turn or are computed. ``gate`` judges those with probes; ``probes`` are those of weight edits
    that have no others. Lives on one event loop.
    """

    def __init__(
        self,
        ledger: Ledger,
        methods: Sequence[Method],
        guard: EditValidator,
        max_queue: int = MAX_QUEUE,
        gate: ProbeGate | None = None,
        probes: Probes | None = None,
    ) -> None:
        self._ledger = ledger
        self._methods = tuple(methods)
        self._guard = guard
        self._max_queue = max_queue
        self._probes = probes
        self._lifecycle = EditLifecycle(ledger, methods, gate)
        self._sets = EditSetLifecycle(ledger, self._lifecycle, methods)
        self._intake = asyncio.Lock()
        self._finished: dict[str, asyncio.Event] = {}
        self._queue: asyncio.Queue[Sequence[Edit]] = asyncio.Queue()
        self._tasks: list[asyncio.Task[None]] = []

    @property
    def served_revision(self) -> int:
        """Revision of the latest change that is in effect; 0 before the first."""
        return self._lifecycle.progress.revision

    def labels(self, variant: str) -> list[str]:
        """Names of the methods that shape every answer of a variant (weight edits)."""
        return [label for method in self._methods for label in method.labels(variant)]

    async def start(self) -> None:
        """Bring into effect what is acknowledged, as far as that is recorded as effective.

        Raises:
            EditError: the store cannot be brought into effect; nothing must be served.
        """
        await self._lifecycle.follow()
        self._tasks += [asyncio.create_task(_prepare(method)) for method in self._methods]

    async def lead(self) -> None:
        """Take edits in from now on; those left unfinished have come to their end then.

        The caller leads the ledger. Raises EditError if the store cannot be brought into effect.
        """
        for job in await self._lifecycle.take_over():
            await self._lifecycle.activate(job)
        self._tasks.append(asyncio.create_task(self._work()))

    @property
    def revision(self) -> int:
        """Revision of the latest change that is known here."""
        return self._ledger.revision

    async def reached(self, revision: int) -> None:
        """Wait until every change up to this revision is in effect here."""
        await self._lifecycle.progress.reached(revision)

    async def follow(self) -> None:
        """Bring into effect what another server has recorded since; raises EditError."""
        await asyncio.to_thread(self._ledger.catch_up)
        await self._lifecycle.follow()

    async def stop(self) -> None:
        """Stop working and close the store; unfinished edits are resumed by the next start."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for method in self._methods:
            await method.close()
        self._ledger.close()

    @property
    def distinguishes(self) -> bool:
        """Whether variants can differ: they do not before the first edit."""
        return self._ledger.revision > 0

    def edits(self) -> list[Edit]:
        """All edits, oldest first."""
        return self._ledger.edits()

    def get(self, edit_id: str) -> Edit:
        """One edit; raises UnknownEdit."""
        return self._ledger.get(edit_id)

    def warnings(self, edit_id: str) -> list[str]:
        """What a user should know of an edit that is in effect; of others, nothing."""
        return [warning for method in self._methods for warning in method.warnings(edit_id)]

    def drift(self, edit_id: str) -> float | None:
        """How far weight edits had drifted with this one, if it is one in effect; in nats."""
        found = [method.drift(edit_id) for method in self._methods]
        return next((drift for drift in found if drift is not None), None)

    def edit_sets(self) -> list[EditSet]:
        """All edit sets, oldest first."""
        return self._ledger.edit_sets()

    def edit_set(self, name: str) -> EditSet:
        """One edit set; raises UnknownEditSet."""
        return self._ledger.edit_set(name)

    @property
    def split(self) -> TrafficSplit | None:
        """How default traffic is split over variants, if it is."""
        return self._ledger.split

    async def submit(self, requests: Sequence[EditRequest], wait: bool) -> list[Edit]:
        """Record new edits, all or none, and set them going.

        Returns them as they are then; with ``wait``, when each has come to its end. Edits of one
        batch method become one batch, computed and brought into effect together.

        Raises:
            InvalidEdit: one of them breaks a rule, or two exclude each other; none was recorded.
            UnknownEditSet: one of them names a set that there is not; none was recorded.
            ConflictingState: a set is frozen, or default traffic would see two edits of a fact;
                none was recorded.
            QueueFull: too many are waiting already; none was recorded.
        """
        self._check(requests)
        edits, quick = await asyncio.shield(self._take_in(requests))
        for job in quick:
            await asyncio.shield(self._lifecycle.activate(job))
        if wait:
            for edit in edits:
                if event := self._finished.get(edit.id):
                    await event.wait()
        return [self._ledger.get(edit.id) for edit in edits]

    async def roll_back(self, edit_id: str) -> Edit:
        """Take an edit back; one still on its way never takes effect.

        A later edit of a fact gives its place back to the one before it. The rest of a batch is
        computed again, which takes as long as an edit does.

        Raises:
            UnknownEdit: there is no such edit.
            ConflictingState: it is rolled back already, or failed and never had an effect, or its
                set is frozen.
            EditError: the rest of its batch could not be computed, or the engine refused; the
                edit is still active.
        """
        return await asyncio.shield(self._lifecycle.take_back(edit_id))

    async def create_set(
        self, name: str, owner: str | None = None, probes: Probes | None = None
    ) -> EditSet:
        """Make an edit set; see `EditSetLifecycle.create` for what it raises.

        Raises InvalidEdit for probes that break a rule.
        """
        if probes is not None:
            self._guard.check_probes(probes)
        return await self._alone(self._sets.create(name, owner, probes))

    async def freeze_set(self, name: str, frozen: bool) -> EditSet:
        """Freeze or thaw an edit set; see `EditSetLifecycle.freeze`."""
        return await self._alone(self._sets.freeze(name, frozen))

    async def activate_set(self, name: str, active: bool) -> EditSet:
        """Bring a set into what default traffic sees, or out; see `EditSetLifecycle.activate`."""
        return await self._alone(self._sets.activate(name, active))

    async def delete_set(self, name: str) -> EditSet:
        """Take back a set's edits and end it; see `EditSetLifecycle.delete`."""
        return await self._alone(self._sets.delete(name))

    async def set_split(self, split: TrafficSplit | None) -> None:
        """Split default traffic over variants, or no more.

        Raises:
            UnknownVariant: there is no variant of that name.
            InvalidSplit: a variant belongs to one tenant, and default traffic is everyone's.
        """
        for variant in split.weights if split else ():
            self._require_shared(variant)
        await self._alone(self._record_split(split))

    async def _record_split(self, split: TrafficSplit | None) -> None:
        await asyncio.to_thread(self._ledger.record_split, split)
        self._lifecycle.progress.reach(self._ledger.revision)

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

    async def _alone(self, change: Coroutine[Any, Any, T]) -> T:
        """Make a change while no edit is taken in, and to its end, even if nobody waits for it."""

        async def alone() -> T:
            async with self._intake:
                return await change

        return await asyncio.shield(alone())

    async def _take_in(
        self, requests: Sequence[EditRequest]
    ) -> tuple[Sequence[Edit], Sequence[Sequence[Edit]]]:
        """Record edits and queue their jobs, in one order; returns the jobs that need no queue."""
        quick = []
        async with self._intake:
            self._require_room(requests)
            wanted = [self._with_probes(request) for request in requests]
            edits = await self._lifecycle.propose(self._proposals(wanted))
            for job in self._lifecycle.jobs(edits):
                if self._lifecycle.method(job[0].request.method).queued:
                    self._finished |= {edit.id: asyncio.Event() for edit in job}
                    self._queue.put_nowait(job)
                else:
                    quick.append(job)
        return edits, quick

    def _check(self, requests: Sequence[EditRequest]) -> None:
        for request in requests:
            self._guard.check(request)
        for method in self._methods:
            method.check([request for request in requests if request.method in method.names])

    def _with_probes(self, request: EditRequest) -> EditRequest:
        """With the probes of its set or of the server, if it brings none."""
        # What feedback makes of an answer is not known beforehand.
        if request.probes is not None or request.method == MEMPROMPT:
            return request
        probes = None
        if request.edit_set is not None:
            probes = self._ledger.edit_set(request.edit_set).probes
        if probes is None and self._lifecycle.method(request.method).queued:
            probes = self._probes
        return replace(request, probes=probes)

    def _require_room(self, requests: Sequence[EditRequest]) -> None:
        coming = sum(self._lifecycle.method(request.method).queued for request in requests)
        waiting = len(self._finished)
        if coming and waiting + coming > self._max_queue:
            raise QueueFull(
                f"{waiting} edits are waiting, {coming} more are asked for, and at most "
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
            # What waits together takes effect together: one pause of the engine, not many.
            for job in self._lifecycle.jobs(waiting):
                await self._activate(job)

    async def _activate(self, job: Sequence[Edit]) -> None:
        try:
            await self._lifecycle.activate(job)
        except StoreError as error:
            # They stay unfinished in the ledger, and the next start takes them up again.
            ids = ", ".join(edit.id for edit in job)
            logger.error("%s: left as they are: %s", ids, error.message)  # noqa: TRY400
        finally:
            for edit in job:
                self._finished.pop(edit.id).set()


async def _prepare(method: Method) -> None:
    """Get ready ahead of the first edit; what fails now is reported again by that edit."""
    try:
        await method.prepare()
    except EditError as error:
        logger.warning("%s is not ready: %s", ", ".join(sorted(method.names)), error.message)
