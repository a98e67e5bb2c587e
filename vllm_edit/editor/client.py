"""The server's end: starts the editor process when it is needed and asks it for deltas."""

import asyncio
import contextlib
import itertools
import os
import sys
from asyncio.subprocess import Process
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import zmq
import zmq.asyncio

from vllm_edit.domain.errors import ComputeFailed, Unavailable
from vllm_edit.editor.messages import (
    MAX_BYTES,
    Compute,
    Done,
    Fact,
    Failed,
    Prepare,
    Progress,
    Ready,
    Request,
    decode_reply,
    encode,
)
from vllm_edit.processes.private_folder import require_private

_CLOSE_SECONDS = 5.0


@dataclass(frozen=True)
class EditorOptions:
    """How the editor process is started.

    `model` is a checkpoint folder; `sockets` an existing folder that only this user may enter;
    `statistics` a folder where key statistics are kept, made if missing; `text` what they are
    made from, where the model does not bring its own; `timeout` the seconds a request may take.
    """

    model: Path
    sockets: Path
    statistics: Path
    text: Path | None = None
    device: str = "cpu"
    threads: int = 1
    timeout: float = 600.0

    def command(self, address: str) -> list[str]:
        command = [sys.executable, "-m", "vllm_edit.editor.process"]
        command += ["--model", str(self.model), "--socket", address]
        command += ["--statistics-dir", str(self.statistics), "--device", self.device]
        command += ["--threads", str(self.threads), "--parent", str(os.getpid())]
        if self.text is not None:
            command += ["--statistics-text", str(self.text)]
        return command


@dataclass(frozen=True)
class Computed:
    """A delta file, the seconds it took and what the method reports about it."""

    path: Path
    seconds: float
    diagnostics: Mapping[str, Any] = field(default_factory=dict)


class EditorClient:
    """Computes deltas in a process of its own; one at a time, further calls wait their turn.

    The process is started by the first call and stays. If it dies, the call that waits for it
    fails and the next one starts it anew; a call that takes too long fails and ends the process.
    """

    def __init__(self, options: EditorOptions) -> None:
        self._options = options
        self._turn = asyncio.Lock()
        self._numbers = itertools.count(1)
        self._context: zmq.asyncio.Context | None = None
        self._running: _Running | None = None
        self._closed = False

    @property
    def pid(self) -> int | None:
        """The process, if one is running."""
        running = self._running
        return running.process.pid if running and running.process.returncode is None else None

    async def start(self, methods: Mapping[str, Mapping[str, Any]]) -> str:
        """Load the model and what `methods` need, so that the first edit does not wait for it.

        `methods` holds hyperparameters by method, as `compute` takes them. Returns the base's
        content fingerprint. Raises ComputeFailed or Unavailable.
        """
        request = Prepare(self._next_id(), {name: dict(v) for name, v in methods.items()})
        reply = await self._ask(request, None)
        if not isinstance(reply, Ready):
            raise ComputeFailed(f"The editor answered {type(reply).__name__} to a preparation.")
        return reply.fingerprint

    async def compute(
        self,
        facts: Sequence[Fact],
        method: str,
        output: Path,
        *,
        live: Sequence[Path] = (),
        hyperparameters: Mapping[str, Any] | None = None,
        bounds: Mapping[str, Any] | None = None,
        on_progress: Callable[[Progress], None] | None = None,
    ) -> Computed:
        """Compute one delta for `facts` on top of the delta files `live`, into `output`.

        `hyperparameters` and `bounds` replace single values of the method's and the governor's.
        Raises ComputeFailed with the editor's code and reason, or with `editor_died` or
        `compute_timeout`; Unavailable if the process cannot be started. Then there is no output.
        """
        request = Compute(
            id=self._next_id(),
            method=method,
            facts=list(facts),
            output=str(output),
            live=[str(path) for path in live],
            hyperparameters=dict(hyperparameters or {}),
            bounds=dict(bounds or {}),
        )
        reply = await self._ask(request, on_progress)
        if not isinstance(reply, Done):
            raise ComputeFailed(f"The editor answered {type(reply).__name__} to a computation.")
        return Computed(Path(reply.path), reply.seconds, reply.diagnostics)

    async def close(self) -> None:
        """End the process for good. A call that waits for it fails, and so do later ones."""
        self._closed = True
        await self._end()
        if self._context is not None:
            self._context.destroy(linger=0)
            self._context = None

    def _next_id(self) -> str:
        return str(next(self._numbers))

    async def _ask(
        self, request: Request, on_progress: Callable[[Progress], None] | None
    ) -> Ready | Done:
        async with self._turn:
            running = await self._ensure_running()
            try:
                async with asyncio.timeout(self._options.timeout):
                    await running.socket.send(encode(request))
                    return await _final(running, request.id, on_progress)
            except TimeoutError as error:
                await self._end()
                raise ComputeFailed(
                    f"The edit took longer than {self._options.timeout:g} s and was given up: "
                    "raise --edit-compute-timeout.",
                    code="compute_timeout",
                ) from error
            except asyncio.CancelledError:
                # Nobody waits for it any more, and the next call shall not wait for it either.
                await self._end()
                raise

    async def _ensure_running(self) -> "_Running":
        if self._closed:
            raise Unavailable("The server is stopping: post the edit again when it is back.")
        if self._running is None or self._running.process.returncode is not None:
            await self._end()
            self._running = await self._spawn()
        return self._running

    async def _spawn(self) -> "_Running":
        folder = self._options.sockets
        require_private(folder)
        path = folder / f"editor-{self._next_id()}.sock"
        address = f"ipc://{path}"
        threads = {"OMP_NUM_THREADS": str(self._options.threads)}
        process = await asyncio.create_subprocess_exec(
            *self._options.command(address),
            env=os.environ | threads,
            stdin=asyncio.subprocess.DEVNULL,
        )
        if self._context is None:
            self._context = zmq.asyncio.Context()
        socket = self._context.socket(zmq.DEALER)
        socket.setsockopt(zmq.LINGER, 0)
        socket.setsockopt(zmq.MAXMSGSIZE, MAX_BYTES)
        socket.connect(address)
        return _Running(process, socket, path)

    async def _end(self) -> None:
        running, self._running = self._running, None
        if running is not None:
            await running.end()


@dataclass(eq=False)
class _Running:
    process: Process
    socket: zmq.asyncio.Socket
    path: Path

    async def end(self) -> None:
        self.socket.close()
        if self.process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self.process.terminate()
            try:
                await asyncio.wait_for(self.process.wait(), _CLOSE_SECONDS)
            except TimeoutError:
                self.process.kill()
                await self.process.wait()
        self.path.unlink(missing_ok=True)

    async def receive(self) -> bytes | None:
        """The next thing that the process says; None when it died without saying more."""
        dead = asyncio.ensure_future(self.process.wait())
        said = asyncio.ensure_future(self.socket.recv())
        try:
            await asyncio.wait({dead, said}, return_when=asyncio.FIRST_COMPLETED)
            # A closed socket cancels what waits for it.
            return said.result() if said.done() and not said.cancelled() else None
        finally:
            dead.cancel()
            said.cancel()


async def _final(
    running: _Running, request_id: str, on_progress: Callable[[Progress], None] | None
) -> Ready | Done:
    """The reply that ends the request. Raises ComputeFailed if that is a failure or none comes."""
    while (data := await running.receive()) is not None:
        try:
            reply = decode_reply(data)
        except msgspec.DecodeError as error:
            raise ComputeFailed(f"The editor sent what is no reply: {error}") from error
        if isinstance(reply, Failed) and reply.id in {request_id, ""}:
            raise ComputeFailed(reply.message, code=reply.code)
        if reply.id != request_id or isinstance(reply, Failed):
            continue
        if not isinstance(reply, Progress):
            return reply
        if on_progress is not None:
            on_progress(reply)
    raise ComputeFailed(
        f"The editor process ended ({_ending(running.process.returncode)}): see the server's log, "
        "and post the edit again.",
        code="editor_died",
    )


def _ending(returncode: int | None) -> str:
    if returncode is None:
        return "it was closed"
    return f"signal {-returncode}" if returncode < 0 else f"exit status {returncode}"
