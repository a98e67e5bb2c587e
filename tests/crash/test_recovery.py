"""What a server makes of a store that was damaged, or that took no more."""

import resource
import shutil
from pathlib import Path

import httpx
import psutil
import pytest

from tests.cases import Case, answer, post
from tests.crash.campaign import settled
from tests.crash.conftest import Fork
from tests.crash.history import ENDED, Told, require_succession
from tests.crash.points import Failure
from tests.crash.replay import Replay, digests, live_deltas

pytestmark = pytest.mark.slow

NO_ROOM = (0, resource.RLIM_INFINITY)
ROOM = (resource.RLIM_INFINITY, resource.RLIM_INFINITY)


@pytest.mark.timeout(180)
def test_damaged_deltas_are_refused_and_computed_again(
    fork: Fork, replay: Replay, store: Path, facts: list[Case], log: Path
) -> None:
    first = fork()
    assert first.answers()
    with first.client() as client:
        post(client, facts[0].edit("rome"))
        batch = {"edits": [case.edit("memit") for case in facts[1:3]], "wait": True}
        assert client.post("/v1/edits", json=batch).is_success
        edits, served = settled(client), digests(client)
    first.kill()
    files = live_deltas(edits, store / "deltas")
    assert len(files) == 2
    _flip_a_bit(files[0])
    _lose_the_end(files[1])
    second = fork()
    assert second.answers()
    assert log.read_text().count("is computed again") == 2
    with second.client() as client:
        # What was computed again is asked again.
        assert _without_answers(settled(client)) == _without_answers(edits)
        assert digests(client) == served
    replay.compare(second, store, edits)


def _without_answers(edits: list[Told]) -> list[Told]:
    return [{name: edit[name] for name in edit if name != "answers"} for edit in edits]


def _flip_a_bit(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)


def _lose_the_end(file: Path, share: float = 0.5) -> None:
    content = file.read_bytes()
    file.write_bytes(content[: int(len(content) * (1 - share))])


@pytest.mark.timeout(180)
def test_a_log_that_lost_its_tail_is_followed_as_far_as_it_goes(
    fork: Fork, replay: Replay, store: Path, facts: list[Case]
) -> None:
    first = fork()
    assert first.answers()
    with first.client() as client:
        for case in facts[5:8]:
            post(client, case.edit("ike"))
        post(client, facts[0].edit("rome"))
        edits = settled(client)
    first.kill()
    whole = store.with_name("whole")
    store.rename(whole)
    # The last row says that an edit is active, which a start finds out again; the others go.
    for share, least, most in ((0.001, len(edits), len(edits)), (0.4, 1, len(edits) - 1)):
        shutil.rmtree(store, ignore_errors=True)
        shutil.copytree(whole, store)
        _lose_the_end(next(store.glob("*-wal")), share)
        server = fork()
        assert server.answers()
        with server.client() as client:
            left = settled(client)
        assert least <= len(left) <= most
        assert [edit["id"] for edit in left] == [edit["id"] for edit in edits[: len(left)]]
        assert all(edit["status"] == "active" for edit in left)
        replay.compare(server, store, left)
        server.kill()


@pytest.mark.timeout(180)
def test_a_full_disk_refuses_changes_and_nothing_else(
    fork: Fork, replay: Replay, store: Path, facts: list[Case]
) -> None:
    first = fork(Failure("appended", action="fill"))
    assert first.answers()
    with first.client() as client:
        body = {**facts[0].edit("rome"), "wait": True}
        assert client.post("/v1/edits", json=body).json()["status"] == "proposed"
        _require_refused(client.post("/v1/edits", json=facts[1].edit("ike")))
        assert len(client.get("/v1/edits").json()["data"]) == 1
        assert answer(client, facts[0].prompt) == facts[0].ground_truth
    first.kill()
    second = fork()
    assert second.answers()
    with second.client() as client:
        (edit,) = settled(client)
        server, editor = psutil.Process(second.pid), second.editor()
        server.rlimit(psutil.RLIMIT_FSIZE, NO_ROOM)
        _require_refused(client.delete(f"/v1/edits/{edit['id']}"))
        assert answer(client, facts[0].prompt) == facts[0].target_new
        server.rlimit(psutil.RLIMIT_FSIZE, ROOM)
        editor.rlimit(psutil.RLIMIT_FSIZE, NO_ROOM)
        failed = client.post("/v1/edits", json={**facts[1].edit("rome"), "wait": True}).json()
        assert (failed["status"], failed["error"]["code"]) == ("failed", "editor_io")
        editor.rlimit(psutil.RLIMIT_FSIZE, ROOM)
        post(client, facts[1].edit("rome"))
        edits = settled(client)
    require_succession(edits)
    assert [edit["status"] in ENDED for edit in edits] == [False, True, False]
    replay.compare(second, store, edits)


def _require_refused(reply: httpx.Response) -> None:
    assert (reply.status_code, reply.json()["error"]["code"]) == (500, "store_error")
