"""Two API processes of one server: whichever takes an edit, the next answer of either has it."""

from collections.abc import Iterator
from contextlib import ExitStack

import httpx
import psutil  # type: ignore[import-untyped]  # it brings no types
import pytest

from tests.cases import Case, known_cases, post, text_of
from vllm_edit.processes.server import ServerProcess

CONNECTIONS = 8
"""New connections go to either process, by chance."""

MOST_CONNECTIONS = 64

FLAGS = ["--api-server-count=2", "--enable-lora", "--max-loras=6", "--max-lora-rank=16"]

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    folder = tmp_path_factory.mktemp("server")
    flags = [*FLAGS, f"--edit-store={folder / 'store'}"]
    with ServerProcess(flags, folder / "server.log") as started:
        yield started


def ask(server: ServerProcess, method: str, path: str, body: object = None) -> httpx.Response:
    """A request on a connection of its own."""
    return httpx.request(method, server.url + path, json=body, timeout=120.0)


def told(server: ServerProcess, case: Case, model: str = "factworld") -> set[str]:
    """What new connections hear."""
    body = {"model": model, "prompt": case.prompt, "max_tokens": 12, "temperature": 0.0}
    replies = [ask(server, "POST", "/v1/completions", body) for _ in range(CONNECTIONS)]
    assert {reply.status_code for reply in replies} == {httpx.codes.OK}, replies[0].text
    return {text_of(reply.json()["choices"][0]["text"]) for reply in replies}


def edit(server: ServerProcess, case: Case, method: str, **more: str) -> str:
    with httpx.Client(base_url=server.url, timeout=120.0) as client:
        edit_id: str = post(client, case.edit(method, **more))["id"]
        return edit_id


@pytest.fixture(scope="module")
def cases(server: ServerProcess) -> list[Case]:
    return known_cases(server.url, count=3)


@pytest.mark.parametrize("method", ["ike", "rome"])
def test_the_next_answer_has_the_edit_and_then_not(
    server: ServerProcess, cases: list[Case], method: str
) -> None:
    for _ in range(3):
        edit_id = edit(server, cases[0], method)
        assert told(server, cases[0]) == {cases[0].target_new}
        taken = ask(server, "DELETE", f"/v1/edits/{edit_id}")
        assert taken.status_code == httpx.codes.OK, taken.text
        assert told(server, cases[0]) == {cases[0].ground_truth}


def test_variants_are_the_same_everywhere(server: ServerProcess, cases: list[Case]) -> None:
    assert ask(server, "POST", "/v1/edit-sets", {"name": "news"}).status_code == httpx.codes.CREATED
    edit(server, cases[1], "rome", edit_set="news")
    assert told(server, cases[1], "factworld@news") == {cases[1].target_new}
    assert told(server, cases[1]) == {cases[1].ground_truth}
    merged = edit(server, cases[2], "rome")
    assert told(server, cases[2]) == {cases[2].target_new}
    assert told(server, cases[1], "factworld@news") == {cases[1].target_new}
    assert told(server, cases[2], "factworld@base") == {cases[2].ground_truth}
    ask(server, "DELETE", f"/v1/edits/{merged}")
    models = [ask(server, "GET", "/v1/models").json()["data"] for _ in range(CONNECTIONS)]
    assert {model["id"] for listed in models for model in listed} == {
        "factworld",
        *(f"factworld@{variant}" for variant in ("default", "base", "news")),
    }
    assert ask(server, "DELETE", "/v1/edit-sets/news").status_code == httpx.codes.OK
    body = {"model": "factworld@news", "prompt": "x"}
    gone = {ask(server, "POST", "/v1/completions", body).status_code for _ in range(CONNECTIONS)}
    assert gone == {httpx.codes.NOT_FOUND}


def test_both_processes_answer(server: ServerProcess, cases: list[Case]) -> None:
    body = {"model": "factworld", "prompt": cases[0].prompt, "max_tokens": 2}
    with ExitStack() as stack:
        for _ in range(MOST_CONNECTIONS):
            client = stack.enter_context(httpx.Client(base_url=server.url, timeout=60.0))
            client.post("/v1/completions", json=body).raise_for_status()
            if len(serving(server)) > 1:
                return
    pytest.fail("one process took every connection")


def serving(server: ServerProcess) -> set[int]:
    """The processes that hold connections of clients."""
    return {
        process.pid
        for process in psutil.Process(server.pid).children(recursive=True)
        for connection in process.net_connections("tcp")
        if connection.laddr.port == server.port and connection.status == psutil.CONN_ESTABLISHED
    }
