"""The life of an edit, on a real ledger: what survives, what is undone, what may overtake what."""

from pathlib import Path

import pytest

from tests.leading import leading
from tests.service.steered import Steered, request
from vllm_edit.domain.edit import EditRequest, Status
from vllm_edit.domain.errors import ConflictingState, InvalidEdit, SwapFailed
from vllm_edit.domain.method import MethodChange

REQUEST = request("capital")


async def test_what_is_served_has_the_revision_of_the_latest_change(path: Path) -> None:
    method = Steered()
    async with leading(path, method) as service:
        (edit,) = await service.submit([REQUEST], wait=True)
        assert edit.status is Status.ACTIVE
        assert method.effective == [edit.id]
        assert service.served_revision == edit.revision > method.revisions[-1]
        taken = await service.roll_back(edit.id)
        assert taken.status is Status.ROLLED_BACK
        assert service.served_revision == taken.revision == method.revisions[-1]
        assert method.effective == []
        assert method.forgotten == [edit.id]


async def test_an_edit_taken_back_while_it_is_computed_never_takes_effect(path: Path) -> None:
    method = Steered()
    method.may_compute.clear()
    async with leading(path, method) as service:
        (edit,) = await service.submit([REQUEST], wait=False)
        await method.computing.wait()
        await service.roll_back(edit.id)
        method.may_compute.set()
        (other,) = await service.submit([REQUEST], wait=True)
        assert method.effective == [other.id]
        assert service.get(edit.id).status is Status.ROLLED_BACK


async def test_an_edit_is_taken_back_while_another_is_computed(path: Path) -> None:
    method = Steered()
    async with leading(path, method) as service:
        first, second = await service.submit([REQUEST, request("river")], wait=True)
        method.may_compute.clear()
        method.computing.clear()
        (other,) = await service.submit([request("colour")], wait=False)
        await method.computing.wait()
        await service.roll_back(first.id)
        assert method.effective == [second.id]
        assert service.get(other.id).status is Status.COMPUTING
        method.may_compute.set()
        await service.submit([request("anthem")], wait=True)
        assert method.effective[:2] == [second.id, other.id]


async def test_a_failed_swap_fails_the_edit_with_its_reason(path: Path) -> None:
    method = Steered()
    async with leading(path, method) as service:
        method.broken = True
        (edit,) = await service.submit([REQUEST], wait=True)
        assert edit.status is Status.FAILED
        assert edit.failure is not None
        assert edit.failure.code == "swap_failed"
        assert method.forgotten == [edit.id]
        with pytest.raises(ConflictingState):
            await service.roll_back(edit.id)


async def test_a_rollback_that_the_engine_refuses_leaves_the_edit_active(path: Path) -> None:
    method = Steered()
    async with leading(path, method) as service:
        (edit,) = await service.submit([REQUEST], wait=True)
        method.broken = True
        with pytest.raises(SwapFailed):
            await service.roll_back(edit.id)
        assert service.get(edit.id).status is Status.ACTIVE
        assert method.effective == [edit.id]


async def test_a_start_restores_active_edits_and_finishes_unfinished_ones(path: Path) -> None:
    method = Steered()
    async with leading(path, method) as service:
        (active,) = await service.submit([REQUEST], wait=True)
        (gone,) = await service.submit([request("river")], wait=True)
        await service.roll_back(gone.id)
        method.may_compute.clear()
        method.computing.clear()
        (unfinished,) = await service.submit([request("colour")], wait=False)
        await method.computing.wait()
    again = Steered()
    async with leading(path, again) as service:
        assert again.effective == [active.id, unfinished.id]
        assert service.get(unfinished.id).status is Status.ACTIVE


async def test_a_bad_request_among_good_ones_records_nothing(path: Path) -> None:
    async with leading(path, Steered()) as service:
        bad = EditRequest("single", "The capital of X is", "Q", "Y")
        with pytest.raises(InvalidEdit):
            await service.submit([REQUEST, bad], wait=False)
        assert service.edits() == []


async def test_an_unforeseen_error_fails_its_edit_and_the_next_one_has_its_turn(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    class Ill(Steered):
        ill = True

        async def compute(self, change: MethodChange) -> list[str]:
            if self.ill and change.coming:
                raise OSError("no process can be started")
            return await super().compute(change)

        async def apply(self, change: MethodChange, computed: list[str], revision: int) -> None:
            await super().apply(change, computed, revision)
            if change.coming and "river" in change.coming[0].request.prompt:
                raise ZeroDivisionError

    method = Ill()
    async with leading(path, method) as service:
        (first,) = await service.submit([REQUEST], wait=True)
        assert first.failure is not None
        assert first.failure.code == "internal_error"
        assert "no process can be started" in first.failure.message
        assert "no process can be started" in caplog.text
        method.ill = False
        (half,) = await service.submit([request("river")], wait=True)
        assert (half.status, method.effective) == (Status.FAILED, [])
        (second,) = await service.submit([REQUEST], wait=True)
        assert (second.status, method.effective) == (Status.ACTIVE, [second.id])
