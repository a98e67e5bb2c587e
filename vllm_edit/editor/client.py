"""The server's end: starts the editor process when it is needed and asks it for deltas."""

import asyncio
import itertools
from collections.abc import Mapping, Sequence
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
    ComputeRequest,
    Done,
    Failed,
    Prepare,
    Ready,
    RequestedEdit,
    decode_reply,
    encode,
)
from vllm_edit.processes.child import Child, command
from vllm_edit.processes.private_folder import require_private


@dataclass(frozen=True)
class EditorOptions:
    """How the editor process is started.

    `model` is a checkpoint folder. `sockets` is an existing folder that only this user may enter.
    `statistics` is a folder for key statistics, made if missing, and `text` what they are made
    from when the model does not bring its own. A request may take `timeout` seconds.
    """

    model: Path
    sockets: Path
    statistics: Path
    text: Path | None = None
    device: str = "cpu"
    threads: int = 1
    timeout: float = 600.0
    trained: Path | None = None
    """The folder of trained editors, if there is one beside the shipped ones."""

    def command(self, address: str) -> list[str]:
        arguments = ["--socket", address, "--statistics-dir", str(self.statistics)]
        if self.text is not None:
            arguments += ["--statistics-text", str(self.text)]
        if self.trained is not None:
            arguments += ["--trained-dir", str(self.trained)]
        module = "vllm_edit.editor.process"
        return command(module, self.model, self.device, self.threads, *arguments)


@dataclass(frozen=True)
class Computed:
    """A delta file, the seconds it took and what the method reports about it."""

    path: Path
    seconds: float
    diagnostics: Mapping[str, Any] = field(default_factory=dict)


class EditorClient:
    """Computes deltas in a child process, one at a time; further calls wait for their turn.

    The first call starts the process, which then stays. If it dies, the call that waits for it
    fails and the next one starts a new process. A call that takes too long fails and ends the
    process.
    """

    def __init__(self, options: EditorOptions) -> None:
        self._options = options
        self._turn = asyncio.Lock()
        self._numbers = itertools.count(1)
        self._context: zmq.asyncio.Context | None = None
        self._editor: _Editor | None = None
        self._closed = False

    @property
    def pid(self) -> int | None:
        """The process, if one is running."""
        editor = self._editor
        return editor.child.pid if editor and editor.child.is_running else None

    async def start(self, methods: Mapping[str, Mapping[str, Any]]) -> str:
        """Load the model and what `methods` need, so that the first edit does not wait for it.

        `methods` holds hyperparameters by method, as `compute` takes them. Returns the base's
        content fingerprint. Raises ComputeFailed or Unavailable.
        """
        request = Prepare(self._next_id(), {name: dict(v) for name, v in methods.items()})
        reply = await self._ask(request)
        if not isinstance(reply, Ready):
            raise ComputeFailed(f"The editor answered {type(reply).__name__} to a preparation.")
        return reply.fingerprint

    async def compute(
        self,
        edits: Sequence[RequestedEdit],
        method: str,
        output: Path,
        *,
        live: Sequence[Path] = (),
        hyperparameters: Mapping[str, Any] | None = None,
        bounds: Mapping[str, Any] | None = None,
    ) -> Computed:
        """Compute one delta for `edits` on top of the delta files `live`, into `output`.

        `hyperparameters` replace single values of the method's, `bounds` those of the governor's.
        Raises ComputeFailed with the editor's code and reason, or with `editor_died` or
        `compute_timeout`, and Unavailable if the process cannot be started. Nothing is written to
        `output` then.
        """
        request = Compute(
            id=self._next_id(),
            method=method,
            edits=list(edits),
            output=str(output),
            live=[str(path) for path in live],
            hyperparameters=dict(hyperparameters or {}),
            bounds=dict(bounds or {}),
        )
        reply = await self._ask(request)
        if not isinstance(reply, Done):
            raise ComputeFailed(f"The editor answered {type(reply).__name__} to a computation.")
        return Computed(Path(reply.path), reply.seconds, reply.diagnostics)

    async def close(self) -> None:
        """End the process for good. A call that waits for it fails, and so do later ones."""
        self._closed = True
        await self._stop()
        if self._context is not None:
            self._context.destroy(linger=0)
            self._context = None

    def _next_id(self) -> str:
        return str(next(self._numbers))

    async def _ask(self, request: ComputeRequest) -> Ready | Done:
        async with self._turn:
            editor = await self._ensure_running()
            try:
                async with asyncio.timeout(self._options.timeout):
                    return await editor.ask(request)
            except TimeoutError as error:
                await self._stop()
                raise ComputeFailed(
                    f"The edit took longer than {self._options.timeout:g} s and was given up: "
                    "raise --edit-compute-timeout.",
                    code="compute_timeout",
                ) from error
            except asyncio.CancelledError:
                # The process would go on with it, and the next call would have to wait.
                await self._stop()
                raise

    async def _ensure_running(self) -> "_Editor":
        if self._closed:
            raise Unavailable("The server is stopping: post the edit again when it is back.")
        if self._editor is None or not self._editor.child.is_running:
            await self._stop()
            self._editor = await self._start()
        return self._editor

    async def _start(self) -> "_Editor":
        require_private(self._options.sockets)
        path = self._options.sockets / f"editor-{self._next_id()}.sock"
        address = f"ipc://{path}"
        child = await Child.start(self._options.command(address), path, self._options.threads)
        if self._context is None:
            self._context = zmq.asyncio.Context()
        socket = self._context.socket(zmq.DEALER)
        socket.setsockopt(zmq.LINGER, 0)
        socket.setsockopt(zmq.MAXMSGSIZE, MAX_BYTES)
        socket.connect(address)
        return _Editor(child, socket)

    async def _stop(self) -> None:
        editor, self._editor = self._editor, None
        if editor is not None:
            await editor.stop()


@dataclass(eq=False)
class _Editor:
    """A running editor process and the connection to it."""

    child: Child
    socket: zmq.asyncio.Socket

    async def ask(self, request: ComputeRequest) -> Ready | Done:
        """The reply to the request. Raises ComputeFailed if that is a failure or none comes."""
        await self.socket.send(encode(request))
        while (data := await self._receive()) is not None:
            try:
                reply = decode_reply(data)
            except msgspec.DecodeError as error:
                raise ComputeFailed(f"The editor sent what is no reply: {error}") from error
            if isinstance(reply, Failed) and reply.id in {request.id, ""}:
                raise ComputeFailed(reply.message, code=reply.code)
            if reply.id == request.id and not isinstance(reply, Failed):
                return reply
        raise ComputeFailed(
            f"The editor process ended ({self.child.ending}): see the server's log, "
            "and post the edit again.",
            code="editor_died",
        )

    async def stop(self) -> None:
        self.socket.close()
        await self.child.stop()

    async def _receive(self) -> bytes | None:
        """The next message of the process; None when it died without one."""
        dead = asyncio.ensure_future(self.child.wait())
        message = asyncio.ensure_future(self.socket.recv())
        try:
            await asyncio.wait({dead, message}, return_when=asyncio.FIRST_COMPLETED)
            # A closed socket cancels what waits for it.
            return message.result() if message.done() and not message.cancelled() else None
        finally:
            dead.cancel()
            message.cancel()
