"""A running server with an admin key: it lets nobody else change edits, and keeps the key."""

import os
import re
import stat
import subprocess
import sys
import time
from pathlib import Path

import httpx
import psutil
import pytest

from tests.cases import DUBAI, MODEL, all_cases, post, roll_back
from tests.conftest import ADMIN_KEY
from vllm_edit.cli import main
from vllm_edit.processes.server import ServerProcess
from vllm_edit.security.access import ADMIN_HEADER

ROOT = Path(__file__).parents[2]
CHECKS_LEFT_OUT = (
    "allow_header_conformance",  # FastAPI names in Allow the methods of one route only
    "positive_data_acceptance",  # the schema cannot say that a prompt contains its subject
    "use_after_free",  # an edit that was taken back stays on record
)
GENERATION = "^/v1/(completions|chat/completions|responses|edits/route)$"
"""The routes that generate, or say how they would."""

NO_5XX = ("--checks=not_a_server_error",)
CASES = int(os.environ.get("VLLM_EDIT_FUZZ_CASES", "300"))
"""Least number of cases that schemathesis tries; 2,500 take some minutes."""


def test_only_the_admin_changes_edits(anyone: httpx.Client, admin: httpx.Client) -> None:
    case = all_cases(1)[0]
    assert anyone.post("/v1/edits", json=case.edit("ike")).status_code == 401
    edit = post(admin, case.edit("ike"))
    path = f"/v1/edits/{edit['id']}"
    assert anyone.delete(path).status_code == 401
    assert anyone.get(path).json()["status"] == "active"
    body = {"model": MODEL, "prompt": case.prompt, "max_tokens": 1}
    assert anyone.post("/v1/completions", json=body).headers["x-edit-ids"] == edit["id"]
    roll_back(admin, edit)


def test_every_changing_route_that_is_shown_says_that_it_needs_a_key(
    anyone: httpx.Client,
) -> None:
    paths = anyone.get("/openapi.json").json()["paths"]
    changing = [
        (method, path, operation.get("security"))
        for path, operations in paths.items()
        for method, operation in operations.items()
        if "edits" in operation.get("tags", ()) and method not in ("get", "head", "options")
    ]
    assert {method for method, _, _ in changing} == {"post", "put", "patch", "delete"}
    for method, path, security in changing:
        assert {"EditAdminKey": []} in security
        assert anyone.request(method, path, json={}).status_code == 401


def test_the_demo_sends_the_key(
    guarded: ServerProcess,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.delenv("VLLM_EDIT_ADMIN_KEY", raising=False)
    assert main(["demo", "--url", guarded.url]) == 1
    assert ADMIN_HEADER in capsys.readouterr().err
    file = tmp_path / "key"
    file.write_text(ADMIN_KEY)
    status = main(["demo", "--url", guarded.url, "--admin-key-file", str(file)])
    output = capsys.readouterr()
    assert status == 0, output.out + output.err


def test_the_key_is_in_no_log_and_no_other_process(guarded: ServerProcess) -> None:
    assert ADMIN_KEY not in guarded.log.read_text()
    children = psutil.Process(guarded.pid).children(recursive=True)
    assert len(children) >= 2
    for child in children:
        assert ADMIN_KEY not in "".join([*child.cmdline(), *child.environ().values()])


def test_the_editor_s_socket_is_in_a_folder_of_its_user(guarded: ServerProcess) -> None:
    folder = _socket(guarded).parent.stat()
    assert stat.S_IMODE(folder.st_mode) == 0o700
    assert folder.st_uid == os.getuid()


def _socket(server: ServerProcess) -> Path:
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        for child in psutil.Process(server.pid).children(recursive=True):
            command = child.cmdline()
            if "--socket" in command:
                address = command[command.index("--socket") + 1]
                assert address.startswith("ipc://")
                return Path(address.removeprefix("ipc://"))
    raise AssertionError("the editor process did not start")


@pytest.mark.timeout(3600)
def test_no_request_that_the_schema_suggests_breaks_the_server(
    guarded: ServerProcess, admin: httpx.Client, tmp_path: Path
) -> None:
    """schemathesis: no 5xx, every answer as the schema has it, and nothing without the key."""
    schema = tmp_path / "openapi.json"
    schema.write_bytes(admin.get("/openapi.json").content)
    checks = ["--checks=all", f"--exclude-checks={','.join(CHECKS_LEFT_OUT)}"]
    made = seed = 0
    while made < CASES:
        made += fuzz(schema, guarded.url, seed, "fuzz_hooks", "--include-tag=edits", *checks)
        seed += 1
    edits = admin.get("/v1/edits").json()["data"]
    # Later cases are about edits that earlier ones made, so their number does not go on growing.
    assert len(edits) >= min(CASES // 50, 100), "too few edits were taken in to say anything"


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_no_text_breaks_a_route_that_generates(
    guarded: ServerProcess, admin: httpx.Client, tmp_path: Path
) -> None:
    """schemathesis: no 5xx where memory edits of every method exist."""
    edits = [
        post(admin, DUBAI | {"method": method, "prompt": f"The {method} of Dubai is the"})
        for method in ("mello", "memprompt", "serac", "ike")
    ]
    schema = tmp_path / "openapi.json"
    schema.write_bytes(admin.get("/openapi.json").content)
    made = seed = 0
    while made < CASES // 3:
        # Only here does every body go through the hook: others are for vLLM to refuse.
        options = (f"--include-path-regex={GENERATION}", "--phases=fuzzing", *NO_5XX)
        made += fuzz(schema, guarded.url, seed, "generation_hooks", *options)
        seed += 1
    for edit in edits:
        admin.delete(f"/v1/edits/{edit['id']}")


def fuzz(schema: Path, url: str, seed: int, hooks: str, *options: str) -> int:
    """Let schemathesis try some cases, checked to be answered well; returns how many."""
    command = [sys.executable, "-m", "schemathesis.cli", "run", str(schema), f"--url={url}"]
    command += [f"--header={ADMIN_HEADER}: {ADMIN_KEY}", "--request-timeout=60", *options]
    command += [f"--seed={seed}", "--max-examples=100", "--no-color"]
    environment = os.environ | {
        "PYTHONPATH": str(ROOT),
        "SCHEMATHESIS_HOOKS": f"tests.api.{hooks}",
    }
    ran = subprocess.run(
        command, cwd=schema.parent, env=environment, capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    made = re.search(r"(\d+) generated", ran.stdout)
    assert made is not None, ran.stdout
    return int(made[1])
