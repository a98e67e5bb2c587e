"""SIGKILL to whole servers as users start them, and to the editor of one."""

from pathlib import Path

import httpx
import psutil
import pytest

from tests.cases import PLAIN_VLLM, Case, answer, known_cases, post, roll_back
from vllm_edit import factworld
from vllm_edit.cli.serve import FACTWORLD_FLAGS, FACTWORLD_SETTINGS
from vllm_edit.processes.server import ServerProcess

pytestmark = pytest.mark.slow


def plain_server(store: Path, log: Path) -> ServerProcess:
    """Plain ``vllm serve`` with our plugin named, settings by environment."""
    flags = [f"--model={factworld.checkpoint()}", *FACTWORLD_FLAGS]
    environment = {"VLLM_PLUGINS": "vllm_edit", "VLLM_EDIT_STORE": str(store), **FACTWORLD_SETTINGS}
    return ServerProcess(flags, log, environment, command=PLAIN_VLLM)


def test_acknowledged_edits_survive_a_kill(tmp_path: Path, log: Path) -> None:
    """Just after an edit was taken in; the next server computes it before it serves."""
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
