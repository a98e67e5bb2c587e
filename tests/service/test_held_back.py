"""A start on a store with edits that cannot be brought into effect."""

from pathlib import Path

import pytest

from tests.leading import leading
from tests.service.steered import Steered, request
from vllm_edit.domain.edit import Edit, Status
from vllm_edit.domain.errors import EditError, StoreError
from vllm_edit.domain.method import MethodChange
from vllm_edit.ledger import Ledger
from vllm_edit.service.service import EditService

FACTS = ("capital", "river", "colour")


class Poisoned(Steered):
    """Cannot apply some edits, and does not name them."""

    def __init__(self, bad: set[str], error: Exception, queued: bool = True) -> None:
        super().__init__()
        self.bad, self.error, self.queued = bad, error, queued

    async def apply(self, change: MethodChange, computed: list[str], revision: int) -> None:
        if self.bad.intersection(edit.id for edit in change.coming):
            raise self.error
        await super().apply(change, computed, revision)


async def three_edits(path: Path) -> list[Edit]:
    async with leading(path, Steered()) as service:
        return await service.submit([request(fact) for fact in FACTS], wait=True)


def statuses(service: EditService) -> list[str]:
    return [edit.status.value for edit in service.edits()]


@pytest.mark.parametrize("error", [IndexError("string index out of range"), EditError("No.")])
async def test_a_weight_edit_that_cannot_be_applied_waits(path: Path, error: Exception) -> None:
    first, bad, last = await three_edits(path)
    method = Poisoned({bad.id}, error)
    async with leading(path, method) as service:
        assert statuses(service) == ["active", "waiting", "active"]
        failure = service.get(bad.id).failure
        assert failure is not None
        assert str(error) in failure.message
        assert method.effective == [first.id, last.id]
        # Other changes go on, and do not try it again.
        (more,) = await service.submit([request("anthem")], wait=True)
        assert method.effective == [first.id, last.id, more.id]
        assert service.get(bad.id).status is Status.WAITING
    async with leading(path, Steered()) as service:
        assert statuses(service) == ["active"] * 4


async def test_it_can_be_taken_back_and_replaced(path: Path) -> None:
    first, bad, last = await three_edits(path)
    method = Poisoned({bad.id, last.id}, EditError("No."))
    async with leading(path, method) as service:
        taken = await service.roll_back(bad.id)
        assert taken.status is Status.ROLLED_BACK
        method.bad = set()
        (again,) = await service.submit([request(FACTS[2], "Z")], wait=True)
        assert method.effective == [first.id, again.id]
        assert statuses(service) == ["active", "rolled_back", "superseded", "active"]


async def test_named_edits_alone_are_held_back(path: Path) -> None:
    first, bad, last = await three_edits(path)
    method = Steered()
    method.unreachable = {bad.id}
    async with leading(path, method) as service:
        assert statuses(service) == ["active", "waiting", "active"]
        assert method.effective == [first.id, last.id]


class MemoryLike(Steered):
    """Not queued, as memory methods are, and names the edits at fault."""

    queued = False


async def test_a_memory_edit_that_cannot_be_applied_fails(path: Path) -> None:
    async with leading(path, MemoryLike()) as service:
        (first,) = await service.submit([request("capital")], wait=True)
        (bad,) = await service.submit([request("capital", "Z")], wait=True)
        (good,) = await service.submit([request("river")], wait=True)
        assert statuses(service) == ["superseded", "active", "active"]
    method = MemoryLike()
    method.unreachable = {bad.id}
    async with leading(path, method) as service:
        assert statuses(service) == ["active", "failed", "active"]
        assert service.get(bad.id).failure is not None
        assert sorted(method.effective) == sorted([first.id, good.id])
    with Ledger(path) as ledger:
        assert [edit.status.value for edit in ledger.edits()] == ["active", "failed", "active"]


async def test_what_is_no_edit_s_fault_stops_the_start(path: Path) -> None:
    async with leading(path, MemoryLike()) as service:
        edits = await service.submit([request("capital"), request("river")], wait=True)
    for error, queued in ((EditError("No encoder."), False), (StoreError("No disk."), True)):
        method = Poisoned({edit.id for edit in edits}, error, queued)
        with pytest.raises(type(error)):
            async with leading(path, method):
                pass
