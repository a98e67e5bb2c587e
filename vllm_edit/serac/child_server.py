"""The server's end of the counterfactual model's process: starts it, watches it and ends it."""

import asyncio
import logging
import socket
import time
from dataclasses import dataclass
from pathlib import Path

import httpx

from vllm_edit.domain.errors import CounterfactualUnavailable, EditError
from vllm_edit.processes.child import Child, command
from vllm_edit.processes.private_folder import require_private
from vllm_edit.serac.model_server import CONNECT_SECONDS, Connection, first_model

_BACKLOG = 128
_SECONDS_BETWEEN_STARTS = 10.0
"""After a start that failed, the next one must wait this long."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class ChildOptions:
    """How the process is started.

    `model` is a checkpoint folder. `sockets` is an existing folder that only this user may enter.
    `timeout` is the number of seconds within which the next piece of an answer must come, and
    `start_timeout` the number within which the model must be loaded.
    """

    model: Path
    sockets: Path
    device: str = "cpu"
    threads: int = 1
    timeout: float = 60.0
    start_timeout: float = 300.0

    def command(self, fd: int) -> list[str]:
        module = "vllm_edit.serac.process"
        return command(module, self.model, self.device, self.threads, "--fd", str(fd))


class ChildServer:
    """A small model in a child process, behind a Unix socket. `started` counts the processes.

    The first `connect` starts the process, which then stays. If it dies, the answers that wait for
    it fail and the next `connect` starts a new process.
    """

    def __init__(self, options: ChildOptions) -> None:
        self.options = options
        self._starting: asyncio.Task[_Model] | None = None
        self.started = 0
        self._model: _Model | None = None
        self._no_start_before = 0.0
        self._closed = False

    @property
    def pid(self) -> int | None:
        """The process, if one is running."""
        model = self._model
        return model.child.pid if model and model.child.is_running else None

    async def connect(self) -> Connection:
        model = self._model
        if model is None or not model.is_ready:
            # If this caller goes away, the start goes on for the next one.
            model = await asyncio.shield(self._start_once())
        return Connection(model.client, model.name)

    async def close(self) -> None:
        """End the process for good, even while it starts or answers."""
        self._closed = True
        if self._model is not None:
            await self._model.stop()
        if self._starting is not None:
            await asyncio.gather(self._starting, return_exceptions=True)
        self._model = None

    def _start_once(self) -> "asyncio.Task[_Model]":
        if self._starting is None or self._starting.done():
            self._starting = asyncio.create_task(self._restart())
            # If no caller is left, nobody else retrieves the exception, and asyncio would log it.
            self._starting.add_done_callback(lambda task: task.cancelled() or task.exception())
        return self._starting

    async def _restart(self) -> "_Model":
        model, self._model = self._model, None
        if model is not None:
            logger.warning("The counterfactual model's process ended; it is started again.")
            await model.stop()
        if self._closed:
            raise _stopping()
        if time.monotonic() < self._no_start_before:
            raise _not_started()
        return await self._start()

    async def _start(self) -> "_Model":
        require_private(self.options.sockets)
        try:
            return await self._start_model()
        except (EditError, OSError) as error:
            self._no_start_before = time.monotonic() + _SECONDS_BETWEEN_STARTS
            raise _not_started() from error

    async def _start_model(self) -> "_Model":
        self._model = model = await self._spawn()
        try:
            if self._closed:
                raise _stopping()
            model.name = await first_model(model.client, self.options.start_timeout)
        finally:
            if not model.name:
                self._model = None
                await model.stop()
        return model

    async def _spawn(self) -> "_Model":
        options = self.options
        self.started += 1
        path = options.sockets / f"serac-{self.started}.sock"
        # The socket listens before the process starts: a client waits until the process accepts,
        # and is refused if the process ends.
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listening:
            listening.bind(str(path))
            listening.listen(_BACKLOG)
            fd = listening.fileno()
            child = await Child.start(options.command(fd), path, options.threads, pass_fds=(fd,))
        client = httpx.AsyncClient(
            transport=httpx.AsyncHTTPTransport(uds=str(path)),
            base_url="http://serac/v1",
            timeout=httpx.Timeout(options.timeout, connect=CONNECT_SECONDS),
            trust_env=False,
        )
        return _Model(child, client)


@dataclass(eq=False)
class _Model:
    """A process, and the name of its model once it has answered."""

    child: Child
    client: httpx.AsyncClient
    name: str = ""

    @property
    def is_ready(self) -> bool:
        return bool(self.name) and self.child.is_running

    async def stop(self) -> None:
        await self.child.stop()
        await self.client.aclose()


def _stopping() -> CounterfactualUnavailable:
    return CounterfactualUnavailable("The server is stopping: ask again when it is back.")


def _not_started() -> CounterfactualUnavailable:
    return CounterfactualUnavailable(
        "The counterfactual model's process does not start: see the server's log, and check "
        "--edit-serac-model.",
        code="counterfactual_not_started",
    )
