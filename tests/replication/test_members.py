"""Several servers on one store, in one process, over real ledgers and real sockets."""

import asyncio
import sqlite3
import stat
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager, closing
from pathlib import Path

import msgspec
import pytest
import zmq
import zmq.asyncio

from tests.service.steered import Steered, request
from vllm_edit.domain.actor import Actor, acting
from vllm_edit.domain.edit import Edit, Status
from vllm_edit.domain.errors import (
    ConflictingState,
    InternalError,
    StoreError,
    StoreReplaced,
    Unavailable,
    UnknownEditSet,
)
from vllm_edit.domain.traffic_split import TrafficSplit
from vllm_edit.ledger import Ledger
from vllm_edit.replication import bus, command_server
from vllm_edit.replication import follower as follower_module
from vllm_edit.replication.bus import Address, Bus
from vllm_edit.replication.member import Member
from vllm_edit.replication.messages import Call
from vllm_edit.service.commands import (
    ActivateSet,
    CreateSet,
    DeleteSet,
    FreezeSet,
    RollBack,
    Submit,
)
from vllm_edit.service.service import EditService
from vllm_edit.service.validation import EditValidator
from vllm_edit.settings import Settings

KEY = "known to these servers only"


class Server:
    """A member and what is beneath it."""

    def __init__(self, store: Path, sockets: Path, where: str) -> None:
        sockets.mkdir(mode=0o700)
        self.method = Steered()
        self.ledger = Ledger(store / "ledger.sqlite3")
        guard = EditValidator(Settings(), self.method.names, ())
        self.service = EditService(self.ledger, [self.method], guard)
        self.member = Member(self.service, self.ledger, Bus(where, sockets, KEY))

    def seen(self, variant: str = "default") -> list[str]:
        return self.method.seen.get(variant, [])


Start = Callable[[str], Awaitable[Server]]


@pytest.fixture(params=["", "tcp://127.0.0.1"], ids=["ipc", "tcp"])
async def start(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Start]:
    """Starts servers of one store by name; all are stopped in the end."""
    async with AsyncExitStack() as stack:

        async def started(name: str) -> Server:
            return await stack.enter_async_context(_running(tmp_path, name, request.param))

        yield started


@asynccontextmanager
async def _running(folder: Path, name: str, where: str) -> AsyncIterator[Server]:
    server = Server(folder, folder / name, where)
    await server.member.start()
    try:
        yield server
    finally:
        await server.member.stop()


async def until(condition: Callable[[], bool]) -> None:
    """Poll what depends on more than one server."""
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.01)


async def test_what_one_server_changes_the_others_see(start: Start) -> None:
    leader, first, second = await start("a"), await start("b"), await start("c")
    (edit,) = await leader.member.change_edits(Submit([request("capital")], True))
    for follower in (first, second):
        await follower.service.reached(edit.revision)
        assert follower.seen() == [edit.id]
    (other,) = await first.member.change_edits(Submit([request("river")], True))
    assert other.status is Status.ACTIVE
    assert first.seen() == [edit.id, other.id]
    (taken,) = await second.member.change_edits(RollBack(edit.id))
    assert (taken.status, second.seen()) == (Status.ROLLED_BACK, [other.id])
    await until(lambda: leader.seen() == first.seen() == [other.id])


async def test_the_leader_records_who_asked_another_server(start: Start) -> None:
    leader, follower = await start("a"), await start("b")
    with acting(Actor("ann", "192.0.2.7", "r-1")):
        (edit,) = await follower.member.change_edits(Submit([request("capital")], False))
    await follower.member.change_set(CreateSet("news"))
    events = await leader.service.history(0, 100)
    actors = {(event.subject, event.status): event.actor for event in events}
    assert actors[edit.id, "proposed"] == Actor("ann", "192.0.2.7", "r-1")
    assert actors["news", "present"] is None


async def test_what_one_server_erases_the_others_forget(start: Start) -> None:
    leader, follower = await start("a"), await start("b")
    (edit,) = await leader.member.change_edits(Submit([request("capital")], True))
    await follower.service.reached(edit.revision)
    (erased,) = await follower.member.change_edits(RollBack(edit.id, erase=True))
    assert (erased.status, erased.request.prompt) == (Status.ROLLED_BACK, "")
    assert leader.service.get(edit.id) == erased
    assert leader.seen() == follower.seen() == []


async def test_sets_and_splits_are_shared(start: Start) -> None:
    leader, follower = await start("a"), await start("b")
    await follower.member.change_set(CreateSet("news"))
    (edit,) = await follower.member.change_edits(
        Submit([request("capital", edit_set="news")], True)
    )
    assert (follower.seen("news"), follower.seen()) == ([edit.id], [])
    assert (await follower.member.change_set(ActivateSet("news", True))).active
    assert leader.seen() == follower.seen() == [edit.id]
    await follower.member.set_split(TrafficSplit({"news": 1.0, "base": 2.0}))
    assert (
        leader.service.split == follower.service.split == TrafficSplit({"news": 1.0, "base": 2.0})
    )
    await follower.member.set_split(None)
    assert (await follower.member.change_set(FreezeSet("news", True))).frozen
    with pytest.raises(ConflictingState) as refused:
        await follower.member.change_set(DeleteSet("news"))
    assert refused.value.code == "frozen_edit_set"
    with pytest.raises(UnknownEditSet):
        await follower.member.change_set(ActivateSet("olds", True))
    await follower.member.change_set(FreezeSet("news", False))
    await follower.member.change_set(DeleteSet("news"))
    assert "news" not in follower.method.seen
    assert follower.seen() == []


async def test_another_leads_when_the_leader_ends(start: Start) -> None:
    leader, follower = await start("a"), await start("b")
    (edit,) = await leader.member.change_edits(Submit([request("capital")], True))
    leader.method.may_compute.clear()
    (unfinished,) = await leader.member.change_edits(Submit([request("river")], False))
    asked = asyncio.create_task(follower.member.change_edits(Submit([request("flag")], True)))
    await until(lambda: len(leader.service.edits()) == 3)
    await leader.member.stop()
    with pytest.raises(Unavailable) as lost:
        await asked
    assert lost.value.code == "leader_lost"
    await until(lambda: len(follower.seen()) == 3)
    assert follower.seen()[:2] == [edit.id, unfinished.id]
    (more,) = await follower.member.change_edits(Submit([request("motto")], True))
    third = await start("c")
    assert third.seen() == follower.seen() == [*follower.seen()[:3], more.id]


async def test_who_only_reads_the_store_is_not_heard(start: Start, tmp_path: Path) -> None:
    leader = await start("a")
    text = leader.ledger.leader()
    address = Address.parse(text)
    with closing(Bus("", tmp_path, KEY)) as known, closing(Bus("", tmp_path)) as unknown:
        keys = known.client_keys(address)
        assert await ask(address, keys, seconds=10) == "unknown_edit"
        assert await ask(address, zmq.curve_keypair(), seconds=0.5) is None
        assert keys[1].decode() not in text
        if address.commands.startswith("ipc"):
            file = tmp_path / "a" / "client.key"
            assert stat.S_IMODE(file.stat().st_mode) == 0o600
            file.unlink()
        with pytest.raises(Unavailable, match="--edit-bus"):
            unknown.connect(address)


async def test_a_leader_that_loses_the_lead_follows(start: Start, tmp_path: Path) -> None:
    first = await start("a")
    (edit,) = await first.member.change_edits(Submit([request("capital")], True))
    first.method.may_compute.clear()
    first.method.computing.clear()
    waiting = asyncio.create_task(first.member.change_edits(Submit([request("sea")], True)))
    await first.method.computing.wait()
    (tmp_path / "ledger.sqlite3.lock").unlink()
    second = await start("b")
    (other,) = await second.member.change_edits(Submit([request("river")], True))
    (unfinished,) = await waiting
    first.method.may_compute.set()
    finished = [edit.id, unfinished.id, other.id]
    await until(lambda: first.seen() == finished)
    (more,) = await first.member.change_edits(Submit([request("flag")], True))
    assert first.seen() == second.seen() == [*finished, more.id]
    await second.member.stop()
    (last,) = await asyncio.wait_for(changed_when_led(first, "hill"), 20)
    assert first.seen() == [*finished, more.id, last.id]


async def changed_when_led(server: Server, fact: str) -> list[Edit]:
    """Make a change as soon as somebody leads."""
    while True:
        try:
            return await server.member.change_edits(Submit([request(fact)], True))
        except Unavailable:
            await asyncio.sleep(0.01)


def backup(store: Path, copy: Path) -> None:
    with closing(sqlite3.connect(store)) as source, closing(sqlite3.connect(copy)) as target:
        source.backup(target)


@pytest.mark.parametrize("in_place", [True, False], ids=["in place", "by another file"])
async def test_a_store_restored_from_a_backup_is_noticed(
    start: Start, tmp_path: Path, in_place: bool
) -> None:
    store, copy = tmp_path / "ledger.sqlite3", tmp_path / "backup.sqlite3"
    leader, follower = await start("a"), await start("b")
    (edit,) = await leader.member.change_edits(Submit([request("capital")], True))
    backup(store, copy)
    await follower.member.change_edits(Submit([request("river")], True))
    if in_place:
        backup(copy, store)
    else:
        copy.replace(store)
        for name in ("ledger.sqlite3-wal", "ledger.sqlite3-shm"):
            (tmp_path / name).unlink(missing_ok=True)
    servers = leader, follower
    await until(lambda: all(server.member.replaced is not None for server in servers))
    for server in servers:
        with pytest.raises(StoreReplaced, match="Start this server again"):
            await server.member.change_edits(Submit([request("sea")], True))
    third = await start("c")
    assert third.seen() == [edit.id]
    (later,) = await third.member.change_edits(Submit([request("sea")], True))
    assert third.seen() == [edit.id, later.id]
    assert all(later.id not in server.seen() for server in servers)


async def test_a_leader_of_another_version_is_followed_and_not_asked(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bus, "PROTOCOL", 99)
    monkeypatch.setattr(bus, "__version__", "9.9")
    leader = await start("a")
    monkeypatch.undo()
    follower = await start("b")
    with pytest.raises(Unavailable, match=r"leads the edit store is vllm-edit 9\.9") as refused:
        await follower.member.change_edits(Submit([request("capital")], True))
    assert refused.value.code == "other_version"
    (edit,) = await leader.member.change_edits(Submit([request("capital")], True))
    await until(lambda: follower.seen() == [edit.id])


async def test_a_command_of_another_version_is_refused_in_words(
    start: Start, tmp_path: Path
) -> None:
    leader = await start("a")
    address = Address.parse(leader.ledger.leader())
    call = msgspec.msgpack.encode({"id": "1", "command": {"type": "fly"}, "more": True})
    with closing(Bus("", tmp_path, KEY)) as known:
        assert await ask(address, known.client_keys(address), 10, call) == "other_version"


async def test_a_leader_that_falls_silent_holds_up_no_request(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(command_server, "HEARTBEAT_SECONDS", 60.0)
    monkeypatch.setattr(follower_module, "SILENCE_SECONDS", 0.3)
    leader, follower = await start("a"), await start("b")
    leader.method.may_compute.clear()
    with pytest.raises(Unavailable) as lost:
        await follower.member.change_edits(Submit([request("capital")], True))
    assert lost.value.code == "leader_lost"


async def test_what_is_no_message_is_survived(start: Start, tmp_path: Path) -> None:
    leader = await start("a")
    address = Address.parse(leader.ledger.leader())
    with closing(Bus("", tmp_path, KEY)) as bus:
        keys = bus.client_keys(address)
    with zmq.asyncio.Context() as context, context.socket(zmq.DEALER) as socket:
        socket.setsockopt(zmq.LINGER, 0)
        socket.curve_serverkey = address.server_key.encode()
        socket.curve_publickey, socket.curve_secretkey = keys
        socket.connect(address.commands)
        for parts in ([b""], [b"", b""], [b"\xff" * 10], [b"a", b"b", b"c"]):
            await socket.send_multipart(parts)
    assert await ask(address, keys, seconds=10) == "unknown_edit"


async def test_one_that_follows_goes_on_after_any_error(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    leader, follower = await start("a"), await start("b")
    errors: list[Exception] = [OSError("injected"), StoreError("injected")]
    follow = follower.service.follow

    async def ill() -> None:
        if errors:
            raise errors.pop()
        await follow()

    monkeypatch.setattr(follower.service, "follow", ill)
    (edit,) = await leader.member.change_edits(Submit([request("capital")], True))
    await until(lambda: follower.seen() == [edit.id])
    assert not errors


async def test_a_command_that_fails_in_an_unforeseen_way_is_answered(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    leader, follower = await start("a"), await start("b")

    async def ill(_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(leader.service, "change_edits", ill)
    with pytest.raises(InternalError, match="ZeroDivisionError"):
        await follower.member.change_edits(Submit([request("capital")], True))


CALL = msgspec.msgpack.encode(Call("1", RollBack("none")))


def test_an_address_for_other_machines_needs_a_key(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="--edit-bus-key-file"):
        Bus("tcp://127.0.0.1", tmp_path)


async def ask(
    address: Address, keys: tuple[bytes, bytes], seconds: float, call: bytes = CALL
) -> object:
    """The code with which the server refuses a command; None if it does not answer."""
    with zmq.asyncio.Context() as context, context.socket(zmq.DEALER) as socket:
        socket.setsockopt(zmq.LINGER, 0)
        socket.curve_serverkey = address.server_key.encode()
        socket.curve_publickey, socket.curve_secretkey = keys
        socket.connect(address.commands)
        await socket.send(call)
        if not await socket.poll(seconds * 1000):
            return None
        return msgspec.msgpack.decode(await socket.recv())["code"]
