"""A later edit of a fact takes the place of the earlier one, and gives it back."""

import asyncio
from pathlib import Path

import pytest

from tests.leading import leading
from tests.service.steered import Steered, request
from vllm_edit.domain.edit import Status
from vllm_edit.domain.errors import SwapFailed
from vllm_edit.service.service import EditService

FIRST, SECOND, THIRD = (request("capital", target) for target in ("A", "B", "C"))


async def post(service: EditService, *targets: str) -> list[str]:
    """The ids of edits of one fact, posted one after another."""
    ids = []
    for target in targets:
        (edit,) = await service.submit([request("capital", target)], wait=True)
        ids.append(edit.id)
    return ids


def states(service: EditService) -> list[tuple[Status, str | None]]:
    return [(edit.status, edit.superseded_by) for edit in service.edits()]


async def test_a_later_edit_supersedes_in_one_step_and_gives_its_place_back(path: Path) -> None:
    method = Steered()
    async with leading(path, method) as service:
        first, second = await post(service, "A", "B")
        (other,) = await service.submit([request("river")], wait=True)
        assert states(service)[:2] == [(Status.SUPERSEDED, second), (Status.ACTIVE, None)]
        assert method.effective == [second, other.id]
        assert len(method.revisions) == 3
        taken = await service.roll_back(second)
        assert service.served_revision == taken.revision == method.revisions[-1]
        assert states(service)[:2] == [(Status.ACTIVE, None), (Status.ROLLED_BACK, None)]
        assert method.effective == [other.id, first]
        assert len(method.revisions) == 4


async def test_taking_back_a_superseded_edit_changes_nothing_served(path: Path) -> None:
    method = Steered()
    async with leading(path, method) as service:
        first, second, third = await post(service, "A", "B", "C")
        revision = service.served_revision
        await service.roll_back(second)
        assert method.effective == [third]
        assert service.served_revision == revision
        assert method.forgotten == [second]
        assert states(service) == [
            (Status.SUPERSEDED, third),
            (Status.ROLLED_BACK, None),
            (Status.ACTIVE, None),
        ]
        await service.roll_back(third)
        assert method.effective == [first]


async def test_each_edit_gives_its_place_back_to_the_one_before(path: Path) -> None:
    method = Steered()
    async with leading(path, method) as service:
        ids = await post(service, "A", "B", "C")
        for now in reversed(range(3)):
            assert method.effective == [ids[now]]
            await service.roll_back(ids[now])
        assert method.effective == []


async def test_of_several_edits_of_a_fact_in_one_list_the_last_is_in_effect(path: Path) -> None:
    method = Steered()
    method.queued = False
    async with leading(path, method) as service:
        (zeroth,) = await post(service, "Z")
        first, second = await service.submit([FIRST, SECOND], wait=True)
        assert method.effective == [second.id]
        assert states(service) == [
            (Status.SUPERSEDED, first.id),
            (Status.SUPERSEDED, second.id),
            (Status.ACTIVE, None),
        ]
        await service.roll_back(second.id)
        assert method.effective == [first.id]
        await service.roll_back(first.id)
        assert method.effective == [zeroth]


async def test_a_refused_swap_leaves_the_earlier_edit_and_every_state_as_it_was(
    path: Path,
) -> None:
    method = Steered()
    async with leading(path, method) as service:
        first, second = await post(service, "A", "B")
        method.broken = True
        (failed,) = await service.submit([THIRD], wait=True)
        assert failed.status is Status.FAILED
        with pytest.raises(SwapFailed):
            await service.roll_back(second)
        assert states(service)[:2] == [(Status.SUPERSEDED, second), (Status.ACTIVE, None)]
        assert method.effective == [second]
        method.broken = False
        await service.roll_back(second)
        assert method.effective == [first]


async def test_a_later_edit_follows_whatever_is_in_effect_when_it_is_ready(path: Path) -> None:
    """While the third is computed the second is taken back, so it is the first that leaves."""
    method = Steered()
    async with leading(path, method) as service:
        first, second = await post(service, "A", "B")
        method.may_compute.clear()
        method.computing.clear()
        (third,) = await service.submit([THIRD], wait=False)
        await method.computing.wait()
        method.computing.clear()
        taking = asyncio.create_task(service.roll_back(second))
        await method.computing.wait()
        method.may_compute.set()
        await taking
        await service.submit([request("river")], wait=True)
        assert service.get(first).superseded_by == third.id
        assert first not in method.effective
        assert third.id in method.effective


async def test_a_start_restores_who_superseded_whom(path: Path) -> None:
    async with leading(path, Steered()) as service:
        first, second = await post(service, "A", "B")
        before = states(service)
    method = Steered()
    async with leading(path, method) as service:
        assert states(service) == before
        assert method.effective == [second]
        (third,) = await post(service, "C")
        assert service.get(second).superseded_by == third
        await service.roll_back(third)
        await service.roll_back(second)
        assert method.effective == [first]
