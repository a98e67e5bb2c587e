"""A vllm-edit server in a process of its own, started and stopped from Python."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Self

import httpx

from vllm_edit.domain.errors import Unavailable


class ServerProcess:
    """Runs ``COMMAND [flags]`` on a free loopback port; a context manager.

    Its output goes to the file ``log``. ``command`` is ``vllm-edit serve`` unless given.
    ``environment`` is added to this process's own.
    """

    def __init__(
        self,
        flags: Sequence[str],
        log: Path,
        environment: Mapping[str, str] | None = None,
        command: Sequence[str] = (sys.executable, "-m", "vllm_edit", "serve"),
    ) -> None:
        self.port = free_port()
        self.log = log
        self._command = [*command, *flags, "--host=127.0.0.1", f"--port={self.port}"]
        self._environment = dict(os.environ) | dict(environment or {})
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        """The server's process id; raises Unavailable while it is not running."""
        if self._process is None:
            raise Unavailable("The server is not running.")
        return self._process.pid

    def start(self, timeout: float = 300.0) -> Self:
        """Start it and return when it answers.

        Raises:
            Unavailable: it ended, or did not answer within ``timeout`` seconds.
        """
        with self.log.open("ab") as out:
            # A session of its own, so that its engine processes can be signalled together.
            self._process = subprocess.Popen(
                self._command,
                env=self._environment,
                stdout=out,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )
        deadline = time.monotonic() + timeout
        while not self._answers():
            if self._process.poll() is not None:
                raise Unavailable(f"The server ended at its start. {self._tail()}")
            if time.monotonic() > deadline:
                self.kill()
                raise Unavailable(f"The server did not answer in {timeout:.0f} s. {self._tail()}")
        return self

    def stop(self, timeout: float = 30.0) -> None:
        """End it in good order, or by force after ``timeout`` seconds."""
        if self._process is None:
            return
        self._process.terminate()
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout)
        self.kill()

    def kill(self) -> None:
        """SIGKILL to the server and every process it started."""
        if self._process is None:
            return
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._process = None

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _answers(self) -> bool:
        try:
            # The wait for the next try is the connection's own time-out.
            return httpx.get(f"{self.url}/health", timeout=1.0).status_code == httpx.codes.OK
        except httpx.TransportError:
            time.sleep(0.1)
            return False

    def _tail(self, lines: int = 30) -> str:
        text = self.log.read_text(errors="replace").splitlines()[-lines:]
        return f"The end of {self.log}:\n" + "\n".join(text)


def free_port() -> int:
    """A TCP port of the loopback address that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port
