"""A method whose every step a test can hold up or make fail, under a service on a real ledger."""

import asyncio
from collections.abc import AsyncIterator, Hashable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from vllm_edit.edit import Edit, EditRequest, Status
from vllm_edit.errors import ComputeFailed, SwapFailed, TargetNotReached
from vllm_edit.guard import Guard
from vllm_edit.ledger import Ledger
from vllm_edit.methods import Change
from vllm_edit.service import EditService
from vllm_edit.settings import Settings


def request(fact: str, target: str = "Y", method: str = "single") -> EditRequest:
    return EditRequest(method, f"The {fact} of X is", "X", target)


class Steered:
    """Remembers its effects, and what it computed for: the ids of the edits coming in each."""

    names = frozenset({"single", "batch"})
    batched = frozenset({"batch"})
    queued = True
    labels: tuple[str, ...] = ()

    def __init__(self) -> None:
        self.computing = asyncio.Event()
        self.may_compute = asyncio.Event()
        self.may_compute.set()
        self.unable = False
        self.unreachable: set[str] = set()
        self.broken = False
        self.effective: list[str] = []
        self.revisions: list[int] = []
        self.computed: list[list[str]] = []
        self.forgotten: list[str] = []

    def check(self, requests: Sequence[EditRequest]) -> None:
        pass

    def fact(self, request: EditRequest) -> Hashable:
        return request.prompt

    def warnings(self, edit_id: str) -> Sequence[str]:
        return ()

    async def prepare(self) -> None:
        pass

    async def restore(self, edits: Sequence[Edit], revision: int) -> None:
        self.effective = [edit.id for edit in edits if edit.status is Status.ACTIVE]

    async def compute(self, change: Change) -> list[str]:
        coming = [edit.id for edit in change.coming]
        self.computed.append(coming)
        self.computing.set()
        if coming:
            await self.may_compute.wait()
        if self.unable:
            raise ComputeFailed("The editor is out of order.")
        if missed := self.unreachable.intersection(self._after(change)):
            reasons = {edit_id: f"{edit_id} is missed." for edit_id in missed}
            raise TargetNotReached(" ".join(reasons.values()), reasons=reasons)
        return coming

    def _after(self, change: Change) -> list[str]:
        leaving = {edit.id for edit in change.leaving}
        stay = [edit_id for edit_id in self.effective if edit_id not in leaving]
        return stay + [edit.id for edit in change.coming]

    def ready(self, change: Change, computed: list[str]) -> bool:
        return computed == [edit.id for edit in change.coming]

    async def apply(self, change: Change, computed: list[str], revision: int) -> None:
        if self.broken:
            raise SwapFailed("The engine is out of order.")
        self.effective = self._after(change)
        self.revisions.append(revision)

    async def forget(self, edits: Sequence[Edit]) -> None:
        self.forgotten += [edit.id for edit in edits]

    async def close(self) -> None:
        pass


@asynccontextmanager
async def running(
    path: Path, method: Steered, max_queue: int = Settings.max_queue
) -> AsyncIterator[EditService]:
    guard = Guard(Settings(), method.names, ())
    service = EditService(Ledger(path), [method], guard, max_queue)
    await service.start()
    try:
        yield service
    finally:
        await service.stop()
