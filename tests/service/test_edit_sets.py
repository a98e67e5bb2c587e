"""Edit sets over a real ledger: what default traffic and the set's own requests see."""

from pathlib import Path

import pytest

from tests.leading import leading
from tests.service.steered import Steered, request
from vllm_edit.domain.edit import Edit, Status
from vllm_edit.domain.errors import (
    ConflictingState,
    EditError,
    InvalidEditSet,
    InvalidSplit,
    SwapFailed,
    UnknownEditSet,
    UnknownVariant,
)
from vllm_edit.domain.traffic_split import TrafficSplit
from vllm_edit.service.commands import ActivateSet, CreateSet, DeleteSet, FreezeSet
from vllm_edit.service.service import EditService


async def post(service: EditService, fact: str, edit_set: str | None, **more: str) -> Edit:
    (edit,) = await service.submit([request(fact, edit_set=edit_set, **more)], wait=True)
    return edit


def code(error: pytest.ExceptionInfo[EditError]) -> str:
    return error.value.code


async def test_a_set_is_apart_until_it_is_active(path: Path) -> None:
    method = Steered()
    async with leading(path, method) as service:
        await service.change_set(CreateSet("news"))
        inside = await post(service, "capital", "news")
        outside = await post(service, "capital", None)
        assert method.seen["news"] == [inside.id]
        assert method.seen["default"] == [outside.id]
        await service.roll_back(outside.id)
        assert (await service.change_set(ActivateSet("news", True))).active
        assert method.seen["default"] == [inside.id]
        more = await post(service, "river", "news")
        assert method.seen["default"] == method.seen["news"] == [inside.id, more.id]
        await service.roll_back(inside.id)
        assert method.seen["default"] == method.seen["news"] == [more.id]
        assert not (await service.change_set(ActivateSet("news", False))).active
        assert (method.seen["news"], method.seen["default"]) == ([more.id], [])
    async with leading(path, again := Steered()) as service:
        assert again.seen == {"base": [], "news": [more.id], "default": []}


async def test_an_active_set_comes_back_with_the_server(path: Path) -> None:
    async with leading(path, Steered()) as service:
        await service.change_set(CreateSet("news"))
        edit = await post(service, "capital", "news")
        await service.change_set(ActivateSet("news", True))
        await service.set_split(TrafficSplit({"base": 1, "news": 3}, by="header:X-Group"))
    async with leading(path, method := Steered()) as service:
        assert method.seen == {"base": [], "news": [edit.id], "default": [edit.id]}
        assert service.split == TrafficSplit({"base": 1, "news": 3}, by="header:X-Group")
        assert [s.name for s in service.edit_sets() if s.active] == ["news"]


async def test_edits_of_a_set_succeed_one_another(path: Path) -> None:
    method = Steered()
    async with leading(path, method) as service:
        await service.change_set(CreateSet("news"))
        outside = await post(service, "capital", None)
        first = await post(service, "capital", "news")
        second = await post(service, "capital", "news", target="Z")
        assert service.get(first.id).superseded_by == second.id
        assert service.get(outside.id).status is Status.ACTIVE
        await service.roll_back(second.id)
        assert method.seen["news"] == [first.id]


async def test_default_traffic_never_sees_two_edits_of_a_fact(path: Path) -> None:
    method = Steered()
    async with leading(path, method) as service:
        await service.change_set(CreateSet("news"))
        await service.change_set(CreateSet("sports"))
        await post(service, "capital", "news")
        outside = await post(service, "capital", None)
        with pytest.raises(ConflictingState) as refused:
            await service.change_set(ActivateSet("news", True))
        assert code(refused) == "conflicting_edits"
        assert method.seen["default"] == [outside.id]
        await service.roll_back(outside.id)
        await service.change_set(ActivateSet("news", True))
        for edit_set in (None, "sports"):
            if edit_set:
                await service.change_set(ActivateSet(edit_set, True))
            with pytest.raises(ConflictingState) as refused:
                await post(service, "capital", edit_set)
            assert code(refused) == "conflicting_edits"
        assert len(service.edits()) == 2


async def test_a_frozen_set_takes_and_gives_no_edit(path: Path) -> None:
    async with leading(path, Steered()) as service:
        await service.change_set(CreateSet("news"))
        edit = await post(service, "capital", "news")
        assert (await service.change_set(FreezeSet("news", True))).frozen
        with pytest.raises(ConflictingState) as refused:
            await post(service, "river", "news")
        assert code(refused) == "frozen_edit_set"
        with pytest.raises(ConflictingState):
            await service.roll_back(edit.id)
        with pytest.raises(ConflictingState):
            await service.change_set(DeleteSet("news"))
        await service.change_set(ActivateSet("news", True))
        await service.change_set(FreezeSet("news", False))
        await service.roll_back(edit.id)


async def test_a_deleted_set_takes_its_edits_with_it(path: Path) -> None:
    method = Steered()
    async with leading(path, method) as service:
        await service.change_set(CreateSet("news"))
        edits = [await post(service, fact, "news") for fact in ("capital", "river")]
        other = await post(service, "flag", None)
        await service.change_set(ActivateSet("news", True))
        await service.set_split(TrafficSplit({"news": 1.0}))
        with pytest.raises(ConflictingState) as refused:
            await service.change_set(DeleteSet("news"))
        assert code(refused) == "edit_set_in_use"
        await service.set_split(None)
        ended = await service.change_set(DeleteSet("news"))
        assert ended.revision == service.served_revision
        assert method.seen == {"base": [], "default": [other.id]}
        assert method.forgotten == [edit.id for edit in edits]
        assert {service.get(edit.id).status for edit in edits} == {Status.ROLLED_BACK}
        with pytest.raises(UnknownEditSet):
            await post(service, "capital", "news")
        await service.change_set(CreateSet("news"))
        assert method.seen["news"] == []
    async with leading(path, again := Steered()):
        assert again.seen == {"base": [], "news": [], "default": [other.id]}


async def test_what_the_engine_refuses_changes_nothing(path: Path) -> None:
    method = Steered()
    async with leading(path, method) as service:
        await service.change_set(CreateSet("news"))
        edit = await post(service, "capital", "news")
        before = dict(method.seen)
        method.broken = True
        with pytest.raises(SwapFailed):
            await service.change_set(ActivateSet("news", True))
        with pytest.raises(SwapFailed):
            await service.change_set(DeleteSet("news"))
        assert not service.edit_set("news").active
        assert service.get(edit.id).status is Status.ACTIVE
        assert method.seen == before
    async with leading(path, again := Steered()):
        assert again.seen == before


async def test_what_belongs_to_one_is_not_shown_to_all(path: Path) -> None:
    async with leading(path, Steered()) as service:
        await service.change_set(CreateSet("private", owner="acme"))
        with pytest.raises(ConflictingState) as refused:
            await service.change_set(ActivateSet("private", True))
        assert code(refused) == "owned_edit_set"
        with pytest.raises(InvalidSplit):
            await service.set_split(TrafficSplit({"private": 1.0}))


async def test_bad_sets_and_splits_are_refused(path: Path) -> None:
    async with leading(path, Steered()) as service:
        for name in ("", "base", "default", "a/b", "@", "-a", "a" * 65, "é"):
            with pytest.raises(InvalidEditSet):
                await service.change_set(CreateSet(name))
        await service.change_set(CreateSet("a" * 64))
        with pytest.raises(ConflictingState) as refused:
            await service.change_set(CreateSet("a" * 64))
        assert code(refused) == "edit_set_exists"
        with pytest.raises(UnknownVariant):
            await service.set_split(TrafficSplit({"none": 1.0}))
        for weights in ({}, {"base": 0.0}, {"base": -1.0}, {"base": float("inf")}):
            with pytest.raises(InvalidSplit):
                TrafficSplit(weights)
        with pytest.raises(InvalidSplit):
            TrafficSplit({"base": 1.0}, by="header:")
