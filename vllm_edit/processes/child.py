"""Python processes that the server starts for itself: what both ends of each of them share."""

import argparse
import asyncio
import contextlib
import os
import signal
import sys
import threading
import time
from asyncio.subprocess import DEVNULL, Process
from collections.abc import Sequence
from pathlib import Path

from vllm_edit.domain.errors import Unavailable

_SECRETS = ("VLLM_EDIT_ADMIN_KEY", "VLLM_EDIT_SERAC_KEY")
_STOP_SECONDS = 5.0
_PARENT_POLL_SECONDS = 0.5


def command(module: str, model: Path, device: str, threads: int, *arguments: str) -> list[str]:
    """The command line that runs `module` as a child of this process."""
    line = [sys.executable, "-m", module, "--model", str(model), "--device", device]
    return [*line, "--threads", str(threads), "--parent", str(os.getpid()), *arguments]


class Child:
    """A running child process and the Unix socket that it serves on; removed together."""

    def __init__(self, process: Process, socket: Path) -> None:
        self._process = process
        self._socket = socket

    @classmethod
    async def start(
        cls, command: Sequence[str], socket: Path, threads: int, pass_fds: Sequence[int] = ()
    ) -> "Child":
        """Run the command with `threads` threads for OpenMP and without the server's secrets.

        Raises Unavailable if the machine cannot start it.
        """
        environment = {name: value for name, value in os.environ.items() if name not in _SECRETS}
        environment["OMP_NUM_THREADS"] = str(threads)
        try:
            process = await asyncio.create_subprocess_exec(
                *command, env=environment, stdin=DEVNULL, pass_fds=pass_fds
            )
        except OSError as error:
            raise Unavailable(
                f"A process that the server needs cannot be started ({error}). See that the "
                "machine has memory and that limits on processes and open files leave room.",
                code="process_not_started",
            ) from error
        return cls(process, socket)

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def is_running(self) -> bool:
        return self._process.returncode is None

    @property
    def ending(self) -> str:
        """How the process ended, in words."""
        code = self._process.returncode
        if code is None:
            return "it was closed"
        return f"signal {-code}" if code < 0 else f"exit status {code}"

    async def wait(self) -> None:
        """Wait until the process has ended."""
        await self._process.wait()

    async def stop(self) -> None:
        """End the process, by force if it does not end in time, and remove its socket."""
        if self.is_running:
            with contextlib.suppress(ProcessLookupError):
                self._process.terminate()
            try:
                await asyncio.wait_for(self._process.wait(), _STOP_SECONDS)
            except TimeoutError:
                self._process.kill()
                await self._process.wait()
        self._socket.unlink(missing_ok=True)


def argument_parser(module: str) -> argparse.ArgumentParser:
    """For the child: a parser of what `command` passes to every child."""
    parser = argparse.ArgumentParser(prog=f"python -m {module}")
    parser.add_argument("--model", type=Path, required=True, help="checkpoint folder")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads to compute with")
    parser.add_argument("--parent", type=int, help="end when this is not the parent process")
    return parser


def end_with(parent: int | None) -> None:
    """For the child: end when `parent` is no longer its parent process, even in the middle of work.

    Ctrl-C reaches every process of the terminal. The child ignores it, since its parent decides
    when it ends. SIGTERM keeps its default, as a handler in Python would have to wait for the
    interpreter.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if parent:
        threading.Thread(target=_watch, args=(parent,), daemon=True).start()


def _watch(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(_PARENT_POLL_SECONDS)
    os._exit(1)
