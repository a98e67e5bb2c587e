"""Edits of one list by a batch method take effect together; each can be taken back."""

from pathlib import Path

import pytest

from tests.leading import leading
from tests.service.steered import Steered, request
from vllm_edit.domain.edit import Failure, Status
from vllm_edit.domain.errors import ComputeFailed, TargetNotReached

BATCH = [request(fact, method="batch") for fact in ("capital", "river", "colour")]


async def test_a_list_becomes_one_batch_for_each_batch_method(path: Path) -> None:
    method = Steered()
    single = request("anthem")
    async with leading(path, method) as service:
        first, alone, *rest = await service.submit([BATCH[0], single, *BATCH[1:]], wait=True)
        (other,) = await service.submit([request("flag", method="batch")], wait=True)
        assert method.computed == [[first.id, alone.id, *(e.id for e in rest)], [other.id]]
        assert len({edit.batch for edit in (first, *rest)}) == 1
        assert alone.batch is None
        assert other.batch not in (None, first.batch)
        assert {edit.status for edit in service.edits()} == {Status.ACTIVE}


async def test_a_failed_batch_fails_as_a_whole_with_the_reason(path: Path) -> None:
    method = Steered()
    method.unable = True
    async with leading(path, method) as service:
        edits = await service.submit(BATCH, wait=True)
        assert {edit.status for edit in edits} == {Status.FAILED}
        assert {edit.failure.code for edit in edits if edit.failure} == {"compute_failed"}
        assert method.forgotten == [edit.id for edit in edits]
        assert method.effective == []


async def test_the_rest_of_a_batch_is_computed_before_one_leaves_it(path: Path) -> None:
    method = Steered()
    async with leading(path, method) as service:
        edits = await service.submit(BATCH, wait=True)
        method.unable = True
        with pytest.raises(ComputeFailed):
            await service.roll_back(edits[0].id)
        assert service.get(edits[0].id).status is Status.ACTIVE
        assert service.get(edits[0].id).revision == edits[0].revision
        assert method.effective == [edit.id for edit in edits]
        method.unable = False
        await service.roll_back(edits[0].id)
        assert method.effective == [edit.id for edit in edits[1:]]


async def test_one_taken_back_while_its_batch_is_computed_is_left_out(path: Path) -> None:
    method = Steered()
    method.may_compute.clear()
    async with leading(path, method) as service:
        edits = await service.submit(BATCH, wait=False)
        ids = [edit.id for edit in edits]
        await method.computing.wait()
        await service.roll_back(ids[1])
        method.may_compute.set()
        await service.submit([request("anthem")], wait=True)
        assert method.computed[:2] == [ids, [ids[0], ids[2]]]
        assert method.effective[:2] == [ids[0], ids[2]]
        assert service.get(ids[1]).status is Status.ROLLED_BACK


async def test_a_start_resumes_a_batch_as_one(path: Path) -> None:
    method = Steered()
    method.may_compute.clear()
    async with leading(path, method) as service:
        edits = await service.submit(BATCH, wait=False)
        await method.computing.wait()
        await service.roll_back(edits[0].id)
    again = Steered()
    async with leading(path, again) as service:
        assert again.computed == [[edit.id for edit in edits[1:]]]
        assert again.effective == [edit.id for edit in edits[1:]]


async def test_those_that_miss_their_target_fail_alone(path: Path) -> None:
    method = Steered()
    method.may_compute.clear()
    async with leading(path, method) as service:
        first, second, third = await service.submit(BATCH, wait=False)
        method.unreachable = {second.id}
        method.may_compute.set()
        await service.submit([request("anthem")], wait=True)
        missed = service.get(second.id)
        assert missed.status is Status.FAILED
        assert missed.failure == Failure("target_not_reached", f"{second.id} is missed.")
        assert method.effective[:2] == [first.id, third.id]
        assert method.computed[:2] == [[first.id, second.id, third.id], [first.id, third.id]]
        assert method.forgotten == [second.id]


async def test_an_edit_that_costs_another_its_target_fails_for_it(path: Path) -> None:
    method = Steered()
    async with leading(path, method) as service:
        edits = await service.submit(BATCH, wait=True)
        method.unreachable = {edits[1].id}
        (later,) = await service.submit([request("capital")], wait=True)
        assert later.failure == Failure("target_not_reached", f"{edits[1].id} is missed.")
        with pytest.raises(TargetNotReached):
            await service.roll_back(edits[0].id)
        assert method.effective == [edit.id for edit in edits]
        await service.roll_back(edits[1].id)
        assert method.effective == [edits[0].id, edits[2].id]


async def test_what_waits_together_takes_effect_together(path: Path) -> None:
    method = Steered()
    method.may_compute.clear()
    async with leading(path, method) as service:
        (first,) = await service.submit([request("anthem")], wait=False)
        await method.computing.wait()
        later = [
            (await service.submit([request(f"fact {n}", method=name)], wait=False))[0]
            for n, name in enumerate(["single", "batch"] * 10)
        ]
        (apart,) = await service.submit([request("flag", pause_mode="wait")], wait=False)
        method.may_compute.set()
        await service.submit([request("motto", pause_mode="abort")], wait=True)
        assert method.computed[:3] == [[first.id], [edit.id for edit in later], [apart.id]]
        assert len(method.revisions) <= 4
        assert {edit.status for edit in service.edits()} == {Status.ACTIVE}


async def test_one_at_fault_among_many_fails_alone(path: Path) -> None:
    method = Steered()
    async with leading(path, method) as service:
        (bad,) = await service.submit([request("anthem")], wait=False)
        method.unreachable = {bad.id}
        others = await service.submit([*BATCH, request("flag")], wait=True)
        assert service.get(bad.id).status is Status.FAILED
        assert {edit.status for edit in others} == {Status.ACTIVE}


async def test_where_nobody_knows_who_is_at_fault_each_is_tried_alone(path: Path) -> None:
    method = Steered()
    method.most = 3
    async with leading(path, method) as service:
        edits = await service.submit([*BATCH, request("flag"), request("motto")], wait=True)
        assert [edit.status for edit in edits] == [Status.ACTIVE] * 5
        assert method.effective == [edit.id for edit in edits]
