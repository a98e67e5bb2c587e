"""The life of an edit, on a real ledger: what survives, what is undone, what may overtake what."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from vllm_edit.edit import Edit, EditRequest, Status
from vllm_edit.errors import ConflictingState, InvalidEdit, SwapFailed
from vllm_edit.guard import Guard
from vllm_edit.ledger import Ledger
from vllm_edit.service import EditService
from vllm_edit.settings import Settings

REQUEST = EditRequest("weights", "The capital of X is", "X", "Y")


class Steered:
    """A method whose every step the test can hold up or make fail; it remembers its effects."""

    names = frozenset({"weights"})
    queued = True
    labels: tuple[str, ...] = ()

    def __init__(self) -> None:
        self.computing = asyncio.Event()
        self.may_compute = asyncio.Event()
        self.may_compute.set()
        self.broken = False
        self.effective: list[str] = []
        self.revisions: list[int] = []

    def check(self, request: EditRequest) -> None:
        pass

    async def prepare(self) -> None:
        pass

    async def restore(self, edits: Sequence[Edit], revision: int) -> None:
        self.effective = [edit.id for edit in edits]

    async def compute(self, edits: Sequence[Edit]) -> None:
        self.computing.set()
        await self.may_compute.wait()

    async def apply(self, edits: Sequence[Edit], computed: Any, revision: int) -> None:
        self._fail_if_broken()
        self.effective += [edit.id for edit in edits]
        self.revisions.append(revision)

    async def deactivate(self, edit: Edit, revision: int) -> None:
        self._fail_if_broken()
        self.effective.remove(edit.id)
        self.revisions.append(revision)

    async def close(self) -> None:
        pass

    def _fail_if_broken(self) -> None:
        if self.broken:
            raise SwapFailed("The engine is out of order.")


@asynccontextmanager
async def running(path: Path, method: Steered) -> AsyncIterator[EditService]:
    guard = Guard(Settings(), method.names, ())
    service = EditService(Ledger(path), [method], guard)
    await service.start()
    try:
        yield service
    finally:
        await service.stop()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ledger.sqlite3"


async def test_an_edit_becomes_active_under_the_revision_it_was_applied_with(path: Path) -> None:
    method = Steered()
    async with running(path, method) as service:
        (edit,) = await service.submit([REQUEST], wait=True)
        assert edit.status is Status.ACTIVE
        assert method.effective == [edit.id]
        assert method.revisions == [service.served_revision]
        taken = await service.roll_back(edit.id)
        assert taken.status is Status.ROLLED_BACK
        assert service.served_revision == taken.revision == method.revisions[-1]
        assert method.effective == []


async def test_an_edit_taken_back_while_it_is_computed_never_takes_effect(path: Path) -> None:
    method = Steered()
    method.may_compute.clear()
    async with running(path, method) as service:
        (edit,) = await service.submit([REQUEST], wait=False)
        await method.computing.wait()
        await service.roll_back(edit.id)
        method.may_compute.set()
        (other,) = await service.submit([REQUEST], wait=True)
        assert method.effective == [other.id]
        assert service.get(edit.id).status is Status.ROLLED_BACK


async def test_a_failed_swap_fails_the_edit_with_its_reason(path: Path) -> None:
    method = Steered()
    async with running(path, method) as service:
        method.broken = True
        (edit,) = await service.submit([REQUEST], wait=True)
        assert edit.status is Status.FAILED
        assert edit.failure is not None
        assert edit.failure.code == "swap_failed"
        with pytest.raises(ConflictingState):
            await service.roll_back(edit.id)


async def test_a_rollback_that_the_engine_refuses_leaves_the_edit_active(path: Path) -> None:
    method = Steered()
    async with running(path, method) as service:
        (edit,) = await service.submit([REQUEST], wait=True)
        method.broken = True
        with pytest.raises(SwapFailed):
            await service.roll_back(edit.id)
        assert service.get(edit.id).status is Status.ACTIVE
        assert method.effective == [edit.id]


async def test_a_start_restores_active_edits_and_finishes_unfinished_ones(path: Path) -> None:
    method = Steered()
    async with running(path, method) as service:
        (active,) = await service.submit([REQUEST], wait=True)
        (gone,) = await service.submit([REQUEST], wait=True)
        await service.roll_back(gone.id)
        method.may_compute.clear()
        method.computing.clear()
        (unfinished,) = await service.submit([REQUEST], wait=False)
        await method.computing.wait()
    again = Steered()
    async with running(path, again) as service:
        assert again.effective == [active.id, unfinished.id]
        assert service.get(unfinished.id).status is Status.ACTIVE


async def test_a_bad_request_among_good_ones_records_nothing(path: Path) -> None:
    async with running(path, Steered()) as service:
        bad = EditRequest("weights", "The capital of X is", "Q", "Y")
        with pytest.raises(InvalidEdit):
            await service.submit([REQUEST, bad], wait=False)
        assert service.edits() == []
