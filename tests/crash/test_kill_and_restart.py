"""SIGKILL after an acknowledged edit, a restart on the same store, and the edit is in effect."""

from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from tests.cases import PLAIN_VLLM, Case, answer, known_cases, post, roll_back
from vllm_edit import factworld
from vllm_edit.cli.serve import FACTWORLD_FLAGS, FACTWORLD_SETTINGS
from vllm_edit.launch import ServerProcess


def plain_server(store: Path, log: Path) -> ServerProcess:
    """Plain ``vllm serve`` with our plugin named, settings by environment."""
    flags = [f"--model={factworld.checkpoint()}", *FACTWORLD_FLAGS]
    environment = {"VLLM_PLUGINS": "vllm_edit", "VLLM_EDIT_STORE": str(store), **FACTWORLD_SETTINGS}
    return ServerProcess(flags, log, environment, command=PLAIN_VLLM)


def test_acknowledged_edits_survive_sigkill(tmp_path: Path, log: Path) -> None:
    store = tmp_path / "store"
    first = plain_server(store, log).start()
    try:
        cases = known_cases(first.url, count=4)
        with httpx.Client(base_url=first.url, timeout=180.0) as client:
            post(client, cases[0].edit("ike"))
            weight_edit = post(client, cases[1].edit("rome"))
            roll_back(client, post(client, cases[2].edit("ike")))
            reply = client.post("/v1/edits", json=cases[3].edit("rome"))
            assert reply.status_code == httpx.codes.ACCEPTED
    finally:
        first.kill()
    with plain_server(store, log) as second, httpx.Client(base_url=second.url) as client:
        client.timeout = 180.0
        _expect(client, cases)
        roll_back(client, weight_edit)
        assert answer(client, cases[1].prompt) == cases[1].ground_truth


def _expect(client: httpx.Client, cases: list[Case]) -> None:
    assert answer(client, cases[0].prompt) == cases[0].target_new
    assert answer(client, cases[1].prompt) == cases[1].target_new
    assert answer(client, cases[2].prompt) == cases[2].ground_truth
    assert answer(client, cases[3].prompt) == cases[3].target_new


def test_batches_and_successions_survive_sigkill(tmp_path: Path, log: Path) -> None:
    """One of a batch is superseded, and one is being taken back when the server is killed."""
    store = tmp_path / "store"
    first = plain_server(store, log).start()
    try:
        cases = known_cases(first.url, count=6)
        batch, target = cases[:3], cases[3].target_new
        assert target != cases[0].target_new
        with httpx.Client(base_url=first.url, timeout=180.0) as client:
            posted = client.post("/v1/edits", json=_list(*(case.edit("memit") for case in batch)))
            edits = posted.json()["data"]
            assert [edit["status"] for edit in edits] == ["active"] * 3
            later = post(client, {**cases[0].edit("rome"), "target_new": target})
            client.post("/v1/edits", json=[case.edit("memit") for case in cases[4:]])
            with pytest.raises(httpx.ReadTimeout):
                client.delete(f"/v1/edits/{edits[1]['id']}", timeout=0.01)
    finally:
        first.kill()
    with plain_server(store, log) as second, httpx.Client(base_url=second.url) as client:
        client.timeout = 180.0
        now = {e["id"]: e for e in client.get("/v1/edits").json()["data"]}
        assert now[edits[0]["id"]]["superseded_by"] == later["id"]
        assert answer(client, cases[0].prompt) == target
        taken_back = now[edits[1]["id"]]["status"] == "rolled_back"
        assert taken_back or now[edits[1]["id"]]["status"] == "active"
        expected = cases[1].ground_truth if taken_back else cases[1].target_new
        assert answer(client, cases[1].prompt) == expected
        for case in (cases[2], *cases[4:]):
            assert answer(client, case.prompt) == case.target_new
        roll_back(client, later)
        assert answer(client, cases[0].prompt) == cases[0].target_new


def _list(*edits: dict[str, Any]) -> dict[str, Any]:
    return {"edits": list(edits), "wait": True}


@pytest.mark.timeout(300)
def test_a_killed_editor_fails_the_edit_and_the_server_goes_on(
    server: ServerProcess, http: httpx.Client, cases: list[Case]
) -> None:
    reply = http.post("/v1/edits", json=cases[0].edit("rome"))
    edit_id = reply.json()["id"]
    status = ""
    while status != "failed":
        _kill_editors(server)
        assert answer(http, cases[1].prompt) == cases[1].ground_truth
        edit = http.get(f"/v1/edits/{edit_id}").json()
        status = edit["status"]
        assert status in ("proposed", "computing", "failed"), edit
    assert edit["error"]["code"]
    assert answer(http, cases[0].prompt) == cases[0].ground_truth
    post(http, cases[0].edit("rome"))
    assert answer(http, cases[0].prompt) == cases[0].target_new


def _kill_editors(server: ServerProcess) -> None:
    for process in psutil.process_iter(["cmdline"]):
        words = process.info["cmdline"] or []
        if "vllm_edit.editor.process" in words and _belongs(process, server.pid):
            process.kill()


def _belongs(process: psutil.Process, pid: int) -> bool:
    return any(parent.pid == pid for parent in process.parents())
