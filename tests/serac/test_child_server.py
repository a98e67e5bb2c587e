"""SERAC with the bundled model in a child process."""

import asyncio
import os
import signal
import stat
import sys
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from starlette.types import Message

from retriever import Fact
from tests.serac.conftest import Sent, wait_until
from vllm_edit import factworld
from vllm_edit.domain.errors import CounterfactualUnavailable, Unavailable
from vllm_edit.serac.child_server import ChildOptions, ChildServer
from vllm_edit.serac.serac import Serac

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def process() -> AsyncIterator[ChildServer]:
    with tempfile.TemporaryDirectory(prefix="serac-") as folder:
        os.environ["VLLM_EDIT_SERAC_KEY"] = "secret"
        made = ChildServer(ChildOptions(factworld.checkpoint(), Path(folder)))
        yield made
        del os.environ["VLLM_EDIT_SERAC_KEY"]
        pid = made.pid
        await made.close()
        assert pid is not None
        assert not _alive(pid)
        assert _sockets(made) == []
        with pytest.raises(CounterfactualUnavailable):
            await made.connect()


@pytest.fixture(scope="module")
def serac(process: ChildServer) -> Serac:
    return Serac(process)


@pytest.fixture
def open_folder(tmp_path: Path) -> Path:
    tmp_path.chmod(0o755)
    return tmp_path


def _alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def _sockets(process: ChildServer) -> list[Path]:
    return list(process.options.sockets.iterdir())


async def _ask(serac: Serac, fact: Fact, **more: Any) -> Sent:
    sent, body = Sent(), {"model": "factworld@set", "max_tokens": 8, **more}
    path = "/v1/chat/completions" if "messages" in more else "/v1/completions"
    await serac.answer(path, body, [fact], sent)
    assert sent.status == 200
    return sent


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("chat", [False, True])
async def test_the_edit_is_answered(
    serac: Serac, process: ChildServer, fact: Fact, *, stream: bool, chat: bool
) -> None:
    question = f"Where was {fact.subject} born?"
    request = (
        {"messages": [{"role": "user", "content": question}]} if chat else {"prompt": question}
    )
    sent = await _ask(serac, fact, stream=stream, **request)
    assert sent.text.strip() == f"{fact.target_new}."
    answers = sent.events if stream else [sent.json]
    assert {answer["model"] for answer in answers} == {"factworld@set"}
    assert process.pid is not None


async def test_many_are_answered_at_once(serac: Serac, fact: Fact) -> None:
    answers = [_ask(serac, fact, prompt=fact.prompt, stream=i % 2 == 0) for i in range(16)]
    texts = {sent.text.strip() for sent in await asyncio.gather(*answers)}
    assert texts == {f"{fact.target_new}."}


async def test_only_this_user_can_connect_and_the_process_has_no_secrets(
    serac: Serac, process: ChildServer
) -> None:
    await serac.start()
    assert process.pid is not None
    assert b"secret" not in _environment(process.pid)
    (path,) = _sockets(process)
    assert stat.S_ISSOCK(path.stat().st_mode)
    assert stat.S_IMODE(process.options.sockets.stat().st_mode) == 0o700


def _environment(pid: int) -> bytes:
    return Path(f"/proc/{pid}/environ").read_bytes()


async def test_a_killed_process_ends_its_answer_and_the_next_request_starts_another(
    endless: Path,
) -> None:
    fact = Fact("e1", "Anna", "Anna was born in", "Oslo")
    with tempfile.TemporaryDirectory(prefix="serac-") as folder:
        process = ChildServer(ChildOptions(endless, Path(folder)))
        serac, sent, killed = Serac(process), Sent(), set()

        async def send(message: Message) -> None:
            await sent(message)
            if len(sent.messages) == 3 and process.pid:
                killed.add(process.pid)
                os.kill(process.pid, signal.SIGKILL)

        body = {"prompt": "Anna", "max_tokens": 4000, "stream": True}
        await serac.answer("/v1/completions", body, [fact], send)
        assert sent.events[-1]["error"]["code"] == "counterfactual_unreachable"
        await asyncio.to_thread(wait_until, lambda: process.pid is None)
        again = await _ask(serac, fact, prompt="Anna", max_tokens=3)
        assert again.json["usage"]["completion_tokens"] == 3
        assert process.pid is not None
        assert process.pid not in killed
        assert process.started == 2
        assert len(_sockets(process)) == 1
        await serac.close()


async def test_a_model_that_cannot_be_loaded_is_reported_and_not_retried_at_once(
    tmp_path: Path,
) -> None:
    with tempfile.TemporaryDirectory(prefix="serac-") as folder:
        process = ChildServer(ChildOptions(tmp_path, Path(folder)))
        for _ in range(2):
            with pytest.raises(CounterfactualUnavailable) as caught:
                await process.connect()
            assert caught.value.code == "counterfactual_not_started"
        # The second time, no process was started.
        assert process.started == 1
        assert process.pid is None


async def test_a_start_continues_after_its_first_client_leaves(endless: Path) -> None:
    with tempfile.TemporaryDirectory(prefix="serac-") as folder:
        process = ChildServer(ChildOptions(endless, Path(folder)))
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(process.connect(), 0.1)
        await process.connect()
        assert process.started == 1
        await process.close()


async def test_a_starting_process_is_stopped(endless: Path) -> None:
    with tempfile.TemporaryDirectory(prefix="serac-") as folder:
        process = ChildServer(ChildOptions(endless, Path(folder)))
        waiting = asyncio.ensure_future(process.connect())
        await asyncio.to_thread(wait_until, lambda: process.pid is not None)
        pid = process.pid
        await process.close()
        with pytest.raises(CounterfactualUnavailable):
            await waiting
        assert pid is not None
        assert not _alive(pid)
        assert _sockets(process) == []


async def test_the_sockets_folder_must_be_private(open_folder: Path) -> None:
    process = ChildServer(ChildOptions(factworld.checkpoint(), open_folder))
    with pytest.raises(Unavailable, match="only this user"):
        await process.connect()


async def test_a_process_that_cannot_be_started_is_reported(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with tempfile.TemporaryDirectory(prefix="serac-") as folder:
        server = ChildServer(ChildOptions(factworld.checkpoint(), Path(folder)))
        monkeypatch.setattr(sys, "executable", f"{folder}/nothing")
        with pytest.raises(CounterfactualUnavailable) as refused:
            await server.connect()
        assert refused.value.code == "counterfactual_not_started"
        await server.close()
