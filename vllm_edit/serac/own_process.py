"""The server's end of the counterfactual model's process: starts it, watches it and ends it."""

import asyncio
import contextlib
import logging
import os
import socket
import sys
import time
from asyncio.subprocess import Process
from dataclasses import dataclass
from pathlib import Path

import httpx

from vllm_edit.domain.errors import CounterfactualUnavailable, EditError
from vllm_edit.processes.private_folder import require_private
from vllm_edit.serac.upstream import CONNECT_SECONDS, Connection, first_model

_BACKLOG = 128
_CLOSE_SECONDS = 5.0
# After a start that failed, the next is not tried before so many seconds.
_PAUSE_SECONDS = 10.0
_SECRETS = ("VLLM_EDIT_ADMIN_KEY", "VLLM_EDIT_SERAC_KEY")

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class ProcessOptions:
    """How the process is started.

    `model` is a checkpoint folder; `sockets` an existing folder that only this user may enter;
    `timeout` the seconds in which the next piece of an answer must come, `start_timeout` those in
    which the model must be loaded.
    """

    model: Path
    sockets: Path
    device: str = "cpu"
    threads: int = 1
    timeout: float = 60.0
    start_timeout: float = 300.0

    def command(self, fd: int) -> list[str]:
        command = [sys.executable, "-m", "vllm_edit.serac.process"]
        command += ["--model", str(self.model), "--fd", str(fd), "--device", self.device]
        return [*command, "--threads", str(self.threads), "--parent", str(os.getpid())]


class OwnProcess:
    """A small model in a process of its own, behind a Unix socket. `started` counts processes.

    The process is started by the first `connect` and stays. If it dies, the answers that wait for
    it break off and the next `connect` starts it anew.
    """

    def __init__(self, options: ProcessOptions) -> None:
        self._options = options
        self._starting: asyncio.Task[_Running] | None = None
        self.started = 0
        self._running: _Running | None = None
        self._refused_until = 0.0
        self._closed = False

    @property
    def pid(self) -> int | None:
        """The process, if one is running."""
        running = self._running
        return running.process.pid if running and running.alive else None

    @property
    def folder(self) -> Path:
        """Where the socket is."""
        return self._options.sockets

    async def connect(self) -> Connection:
        running = self._running
        if running is None or not running.ready:
            # A start goes on for the next who asks, even if who asked first does not wait for it.
            running = await asyncio.shield(self._start_once())
        return Connection(running.client, running.model)

    async def close(self) -> None:
        """End the process for good, be it starting or answering."""
        self._closed = True
        if self._running is not None:
            await self._running.end()
        if self._starting is not None:
            await asyncio.gather(self._starting, return_exceptions=True)
        self._running = None

    def _start_once(self) -> "asyncio.Task[_Running]":
        if self._starting is None or self._starting.done():
            self._starting = asyncio.create_task(self._restart())
            # Who waited may have gone; then nobody else takes note of an error.
            self._starting.add_done_callback(lambda task: task.cancelled() or task.exception())
        return self._starting

    async def _restart(self) -> "_Running":
        running, self._running = self._running, None
        if running is not None:
            logger.warning("The counterfactual model's process ended; it is started again.")
            await running.end()
        if self._closed:
            raise _stopping()
        if time.monotonic() < self._refused_until:
            raise _no_start()
        return await self._start()

    async def _start(self) -> "_Running":
        self._running = running = await self._spawn()
        try:
            if self._closed:
                raise _stopping()
            running.model = await first_model(running.client, self._options.start_timeout)
        except EditError as error:
            self._refused_until = time.monotonic() + _PAUSE_SECONDS
            raise _no_start() from error
        finally:
            if not running.model:
                self._running = None
                await running.end()
        return running

    async def _spawn(self) -> "_Running":
        require_private(self._options.sockets)
        self.started += 1
        path = self._options.sockets / f"serac-{self.started}.sock"
        environment = {name: value for name, value in os.environ.items() if name not in _SECRETS}
        environment["OMP_NUM_THREADS"] = str(self._options.threads)
        # It is there before the process is: who connects waits, and is let go should that end.
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listening:
            listening.bind(str(path))
            listening.listen(_BACKLOG)
            process = await asyncio.create_subprocess_exec(
                *self._options.command(listening.fileno()),
                env=environment,
                stdin=asyncio.subprocess.DEVNULL,
                pass_fds=(listening.fileno(),),
            )
        client = httpx.AsyncClient(
            transport=httpx.AsyncHTTPTransport(uds=str(path)),
            base_url="http://serac/v1",
            timeout=httpx.Timeout(self._options.timeout, connect=CONNECT_SECONDS),
            trust_env=False,
        )
        return _Running(process, client, path)


@dataclass(eq=False)
class _Running:
    process: Process
    client: httpx.AsyncClient
    path: Path
    model: str = ""

    @property
    def alive(self) -> bool:
        return self.process.returncode is None

    @property
    def ready(self) -> bool:
        """Whether it has answered and still runs."""
        return bool(self.model) and self.alive

    async def end(self) -> None:
        if self.alive:
            with contextlib.suppress(ProcessLookupError):
                self.process.terminate()
            try:
                await asyncio.wait_for(self.process.wait(), _CLOSE_SECONDS)
            except TimeoutError:
                self.process.kill()
                await self.process.wait()
        await self.client.aclose()
        self.path.unlink(missing_ok=True)


def _stopping() -> CounterfactualUnavailable:
    return CounterfactualUnavailable("The server is stopping: ask again when it is back.")


def _no_start() -> CounterfactualUnavailable:
    return CounterfactualUnavailable(
        "The counterfactual model's process does not start: see the server's log, and check "
        "--edit-serac-model.",
        code="counterfactual_not_started",
    )
