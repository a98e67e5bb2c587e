"""The client with a real process behind real sockets."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import zmq

from vllm_edit.domain.errors import ComputeFailed, Unavailable
from vllm_edit.editor.client import EditorClient, EditorOptions
from vllm_edit.editor.messages import (
    Failed,
    Prepare,
    Ready,
    RequestedEdit,
    decode_reply,
    encode,
)
from weight_patchers import fingerprint

Connect = Callable[[EditorOptions], EditorClient]

EDIT = RequestedEdit("e1", "The capital of France is", "France", "Lima")
FAST = {"steps": 2, "context_count": 1}
ENDLESS = {"steps": 1000, "stop_probability": 1.0, "step": 1e-6}


def _alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def _cpu_ticks(pid: int) -> int:
    """The time that the process has computed for, in clock ticks."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[11])


def _wait_until(condition: Callable[[], bool], seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "this took too long"
        time.sleep(0.05)


def test_the_client_imports_neither_torch_nor_vllm() -> None:
    code = "import sys, vllm_edit.editor.client; print({'torch', 'vllm'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


async def test_a_killed_process_fails_the_computation_and_is_started_anew(
    connect: Connect, options: EditorOptions, tmp_path: Path
) -> None:
    client = connect(options)
    await client.start({"rome": FAST})
    first = client.pid
    assert first is not None
    idle = _cpu_ticks(first)
    waiting = asyncio.create_task(
        client.compute([EDIT], "rome", tmp_path / "delta", hyperparameters=ENDLESS)
    )
    await asyncio.to_thread(_wait_until, lambda: _cpu_ticks(first) > idle + 10)
    os.kill(first, signal.SIGKILL)
    with pytest.raises(ComputeFailed, match="signal 9") as raised:
        await waiting
    assert raised.value.code == "editor_died"
    assert not (tmp_path / "delta").exists()
    await client.compute([EDIT], "rome", tmp_path / "delta", hyperparameters=FAST)
    assert client.pid != first


async def test_a_computation_that_takes_too_long_is_given_up(
    connect: Connect, options: EditorOptions, tmp_path: Path
) -> None:
    client = connect(replace(options, timeout=0.2))
    with pytest.raises(ComputeFailed, match=r"longer than 0\.2 s") as raised:
        await client.compute([EDIT], "rome", tmp_path / "delta")
    assert raised.value.code == "compute_timeout"
    assert client.pid is None


async def test_closing_ends_the_process_and_what_waits_for_it(
    connect: Connect, options: EditorOptions, tmp_path: Path
) -> None:
    client = connect(options)
    await client.start({"rome": FAST})
    pid = client.pid
    assert pid is not None
    waiting = [
        asyncio.create_task(
            client.compute([EDIT], "rome", tmp_path / "delta", hyperparameters=ENDLESS)
        )
        for _ in range(2)
    ]
    idle = _cpu_ticks(pid)
    await asyncio.to_thread(_wait_until, lambda: _cpu_ticks(pid) > idle + 10)
    await client.close()
    assert not _alive(pid)
    with pytest.raises(ComputeFailed):
        await waiting[0]
    with pytest.raises(Unavailable, match="stopping"):
        await waiting[1]
    assert list(options.sockets.iterdir()) == []


async def test_only_a_private_folder_is_used_for_sockets(
    connect: Connect, options: EditorOptions, tmp_path: Path
) -> None:
    options.sockets.chmod(0o755)
    with pytest.raises(Unavailable, match="only this user"):
        await connect(options).start({"rome": {}})
    missing = replace(options, sockets=tmp_path / "missing")
    with pytest.raises(Unavailable, match="cannot be used"):
        await connect(missing).start({"rome": {}})
    long = tmp_path / ("x" * 100)
    long.mkdir(mode=0o700)
    with pytest.raises(Unavailable, match="too long"):
        await connect(replace(options, sockets=long)).start({"rome": {}})


def test_garbage_does_not_kill_the_process(options: EditorOptions) -> None:
    address = f"ipc://{options.sockets}/editor.sock"
    process = subprocess.Popen(options.command(address))
    try:
        with zmq.Context() as context, context.socket(zmq.DEALER) as socket:
            socket.setsockopt(zmq.LINGER, 0)
            socket.connect(address)
            for garbage in (b"", b"\xc1", b"\x00" * 1000, encode(Ready("1", "f"))):
                socket.send(garbage)
                assert socket.poll(60_000)
                reply = decode_reply(socket.recv())
                assert isinstance(reply, Failed)
                assert (reply.id, reply.code) == ("", "bad_message")
            socket.send_multipart([b"a", b"b"])
            assert isinstance(decode_reply(socket.recv()), Failed)
            socket.send(encode(Prepare("7", {"rome": {}})))
            assert decode_reply(socket.recv()) == Ready("7", fingerprint(options.model))
        process.terminate()
        assert process.wait(30) == -signal.SIGTERM
    finally:
        process.kill()
        process.wait()


def test_the_process_ends_with_its_parent(options: EditorOptions) -> None:
    """The parent here is a script that starts the process and is then killed."""
    parent = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import os, subprocess, sys, time\n"
            "i = sys.argv.index('--parent')\n"
            "argv = sys.argv[1:i] + ['--parent', str(os.getpid())] + sys.argv[i + 2:]\n"
            "print(subprocess.Popen(argv).pid, flush=True)\n"
            "time.sleep(600)\n",
            *options.command(f"ipc://{options.sockets}/editor.sock"),
        ],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert parent.stdout is not None
    child = int(parent.stdout.readline())
    try:
        _wait_until((options.sockets / "editor.sock").exists)
        assert _alive(child)
    finally:
        parent.kill()
        parent.wait()
        parent.stdout.close()
    _wait_until(lambda: not _alive(child), 30.0)


async def test_a_process_that_cannot_be_started_fails_its_edits_and_is_tried_again(
    connect: Connect, options: EditorOptions, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = connect(options)
    with monkeypatch.context() as patch:
        patch.setattr(sys, "executable", str(options.sockets / "nothing"))
        with pytest.raises(Unavailable, match="cannot be started") as refused:
            await client.start({})
        assert refused.value.code == "process_not_started"
    assert await client.start({}) == fingerprint(options.model)
