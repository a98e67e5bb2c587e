"""Whichever write of whichever change fails: what is served is what the ledger says, and a replay
of the ledger serves it too."""

import asyncio
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, event

from tests.leading import leading
from tests.service.steered import Steered, request
from vllm_edit.domain.edit import UNFINISHED, EditRequest, Status
from vllm_edit.domain.errors import ConflictingState, EditError, StoreError, SwapFailed
from vllm_edit.domain.method import Method, MethodChange
from vllm_edit.domain.traffic_split import TrafficSplit
from vllm_edit.domain.variant import BASE, DEFAULT
from vllm_edit.ledger import Ledger, Log
from vllm_edit.service import service as service_module
from vllm_edit.service.commands import ActivateSet, CreateSet, DeleteSet, FreezeSet, SetCommand
from vllm_edit.service.service import EditService

SET = "news"


class Remembering(Steered):
    """Takes effect at once, as memory edits do."""

    names = frozenset({"memory"})
    batched: frozenset[str] = frozenset()
    queued = False
    asked = names
    must_tell = names


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Mended at once; and no write waits for a disk, as no power fails here."""
    monkeypatch.setattr(service_module, "MEND_SECONDS", 0.01)

    def unsynchronised(connection: Any, _: object) -> None:
        connection.execute("PRAGMA synchronous=OFF")

    event.listen(Engine, "connect", unsynchronised)
    yield
    event.remove(Engine, "connect", unsynchronised)


class Changes:
    """Every kind of change, one after another, as far as each can be made."""

    def __init__(self, service: EditService) -> None:
        self._service = service

    async def run(self, after_each: Callable[[], None]) -> None:
        for step in (
            self._post(request("capital"), request("river", method="memory")),
            self._post(request("flag", method="batch"), request("anthem", method="batch")),
            self._post(request("capital", "Z"), request("river", "Z", method="memory")),
            self._take_back("capital"),
            self._take_back("river"),
            self._take_back("flag"),
            self._set(CreateSet(SET)),
            self._post(
                request("sea", edit_set=SET), request("hill", method="memory", edit_set=SET)
            ),
            self._set(ActivateSet(SET, True)),
            self._split(TrafficSplit({BASE: 1, SET: 1})),
            self._split(None),
            self._set(FreezeSet(SET, True)),
            self._set(FreezeSet(SET, False)),
            self._set(ActivateSet(SET, False)),
            self._set(DeleteSet(SET)),
        ):
            with suppress(EditError):
                await step
            after_each()

    async def _post(self, *requests: EditRequest) -> None:
        await self._service.submit(requests, wait=True)

    async def _take_back(self, fact: str) -> None:
        """The latest edit of a fact."""
        edits = [e for e in self._service.edits() if f"The {fact} of" in e.request.prompt]
        if edits:
            await self._service.roll_back(edits[-1].id)

    async def _set(self, command: SetCommand) -> None:
        await self._service.change_set(command)

    async def _split(self, split: TrafficSplit | None) -> None:
        await self._service.set_split(split)


def recorded(path: Path, methods: Sequence[Method]) -> list[dict[str, list[str]]]:
    """What each method must serve in each variant, by the ledger alone."""
    with Ledger(path) as ledger:
        variants = [BASE, *(edit_set.name for edit_set in ledger.edit_sets()), DEFAULT]
        return [
            {
                variant: sorted(
                    edit.id
                    for edit in ledger.edits()
                    if edit.status is Status.ACTIVE
                    and edit.request.method in method.names
                    and variant in ledger.variants_of(edit)
                )
                for variant in variants
            }
            for method in methods
        ]


def served(methods: Sequence[Steered]) -> list[dict[str, list[str]]]:
    return [{variant: sorted(ids) for variant, ids in m.seen.items()} for m in methods]


@contextmanager
def readonly(writes: range) -> Iterator[Callable[[], int]]:
    """SQLite refuses these writes of the service, counted from 1; gives how many there were."""
    numbers = count(1)
    last = 0
    used = set()

    def refuse(connection: Any, _cursor: object, statement: str, *_: object) -> None:
        nonlocal last
        if statement.startswith("BEGIN IMMEDIATE"):
            last = next(numbers)
            used.add(connection.connection.driver_connection)
            refused = "ON" if last in writes else "OFF"
            connection.connection.execute(f"PRAGMA query_only={refused}")

    event.listen(Engine, "before_cursor_execute", refuse)
    try:
        yield lambda: last
    finally:
        event.remove(Engine, "before_cursor_execute", refuse)
        for connection in used:
            connection.execute("PRAGMA query_only=OFF")


@contextmanager
def unanswered(writes: range) -> Iterator[Callable[[], int]]:
    """These writes are made, and the reply to each of them is lost."""
    numbers = count(1)
    last = 0
    append = Log.append

    def lose(log: Log, *args: Any) -> Any:
        nonlocal last
        events = append(log, *args)
        last = next(numbers)
        if last in writes:
            raise StoreError("Whether it was recorded is not known.")
        return events

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Log, "append", lose)
        yield lambda: last


async def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.005)


async def changed(path: Path, fault: Any, writes: range) -> int:
    """Make all changes with a fault in some writes; returns how many writes there were."""
    methods = Steered(), Remembering()
    async with leading(path, *methods) as service:
        with fault(writes) as made:

            def compare() -> None:
                # Where not even the outcome of a write is known, it is found out a little later.
                if fault is readonly or service.settled:
                    assert served(methods) == recorded(path, methods), writes

            await Changes(service).run(compare)
            number: int = made()
        await until(lambda: service.settled)
        await until(lambda: all(edit.status not in UNFINISHED for edit in service.edits()))
        assert served(methods) == recorded(path, methods), writes
        found = served(methods), [(edit.id, edit.status) for edit in service.edits()]
    replayed = Steered(), Remembering()
    async with leading(path, *replayed) as service:
        assert (served(replayed), [(e.id, e.status) for e in service.edits()]) == found, writes
    return number


@pytest.mark.slow
@pytest.mark.parametrize("fault", [readonly, unanswered])
@pytest.mark.parametrize("lasting", [False, True], ids=["once", "from then on"])
async def test_any_write_may_fail(tmp_path: Path, fault: Any, lasting: bool) -> None:
    whole = await changed(tmp_path / "whole.sqlite3", fault, range(0))
    assert whole > 30
    for number in range(1, whole + 1):
        writes = range(number, 1000 if lasting else number + 1)
        await changed(tmp_path / f"{number}.sqlite3", fault, writes)


@pytest.mark.parametrize("fault", [readonly, unanswered])
@pytest.mark.parametrize("number", [1, 4, 9, 20, 27])
async def test_some_writes_may_fail(path: Path, fault: Any, number: int) -> None:
    await changed(path, fault, range(number, number + 1))


async def test_an_edit_that_cannot_be_recorded_as_active_is_not_served(path: Path) -> None:
    method = Steered()
    async with leading(path, method) as service:
        with readonly(range(4, 5)):
            (edit,) = await service.submit([request("capital")], wait=True)
        assert edit.status is Status.FAILED
        assert edit.failure is not None
        assert edit.failure.code == "store_error"
        assert method.effective == []
        with pytest.raises(ConflictingState):
            await service.roll_back(edit.id)


async def test_a_failed_edit_that_is_still_served_can_be_taken_back(path: Path) -> None:
    method = Steered()

    class Stuck(Steered):
        async def apply(self, change: MethodChange, computed: list[str], revision: int) -> None:
            await super().apply(change, computed, revision)
            self.broken = bool(change.coming)

    method = Stuck()
    async with leading(path, method) as service:
        with readonly(range(4, 5)):
            (edit,) = await service.submit([request("capital")], wait=True)
        assert (edit.status, method.effective) == (Status.FAILED, [edit.id])
        assert not service.settled
        with pytest.raises(SwapFailed):
            await service.roll_back(edit.id)
        method.broken = False
        await until(lambda: service.settled)
        assert method.effective == []


async def test_what_could_not_be_finished_is_finished_when_the_store_can_be_written(
    path: Path,
) -> None:
    method = Steered()
    async with leading(path, method) as service:
        with readonly(range(3, 1000)):
            (edit,) = await service.submit([request("capital")], wait=True)
            assert edit.status in UNFINISHED
            assert method.effective == []
        await until(lambda: service.get(edit.id).status is Status.ACTIVE)
        assert method.effective == [edit.id]
