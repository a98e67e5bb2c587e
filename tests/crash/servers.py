"""Servers that start in seconds, to be killed."""

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any, Self

import httpx
import psutil

from tests.crash import editors
from tests.crash.points import Failure
from vllm_edit.processes.server import free_port
from vllm_edit.store import Store

ROOT = Path(__file__).parents[2]

ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",  # a process that has computed with several threads cannot be forked
    "TORCHINDUCTOR_COMPILE_THREADS": "1",
    "VLLM_PLUGINS": "vllm_edit",
    "PYTHONPATH": str(ROOT),
}

ADAPTERS = ("--enable-lora", "--max-lora-rank=64", "--max-loras=8")
"""Flags without which sets with weight edits could not be asked."""


class Zygote:
    """The process that forks servers; a context manager."""

    def __init__(self, log: Path) -> None:
        self._log = log
        # For the sockets and folders of servers that cannot tidy up; sockets want a short path.
        self._scratch = tempfile.TemporaryDirectory(prefix="crash-")

    def __enter__(self) -> Self:
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.crash.zygote"],
                env=os.environ | ENVIRONMENT | {"TMPDIR": self._scratch.name},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                cwd=ROOT,
                start_new_session=True,
            )
        assert self._answer() == "ready"
        return self

    def __exit__(self, *_: object) -> None:
        self._process.communicate()
        self._scratch.cleanup()

    def ask(self, **order: Any) -> Any:
        """Give an order, as ``zygote.py`` has them; returns its answer."""
        assert self._process.stdin is not None
        print(json.dumps(order), file=self._process.stdin, flush=True)
        return self._answer()

    def _answer(self) -> Any:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, f"the zygote ended:\n{self._log.read_text()}"
        return json.loads(line)


class ForkedServer:
    """``vllm-edit serve`` on factworld, forked; a context manager that kills it."""

    def __init__(
        self,
        zygote: Zygote,
        store: Path | Store,
        log: Path,
        failure: Failure | None = None,
        environment: Mapping[str, str] | None = None,
        flags: Sequence[str] = ADAPTERS,
    ) -> None:
        self._zygote = zygote
        self.log = log
        port = free_port()
        self.pid: int = zygote.ask(
            argv=[f"--edit-store={store}", f"--port={port}", *flags],
            log=str(log),
            environment={"VLLM_EDIT_MAX_RATE": "0", **(environment or {})},
            failure=asdict(failure) if failure else None,
        )
        self.url = f"http://127.0.0.1:{port}"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    def client(self) -> httpx.Client:
        return httpx.Client(base_url=self.url, timeout=120.0)

    def answers(self, timeout: float = 120.0) -> bool:
        """Wait until it answers; False if it has ended before."""
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            with suppress(httpx.TransportError):
                if httpx.get(f"{self.url}/health", timeout=1.0).status_code == httpx.codes.OK:
                    return True
            if self.end() is not None:
                return False
            time.sleep(0.05)
        raise AssertionError(f"{self.log} in {timeout:g} s:\n{self.log.read_text()[-5000:]}")

    def signal(self, number: int) -> None:
        """Send a signal to all of its processes."""
        with suppress(ProcessLookupError):
            os.killpg(self.pid, number)

    def kill(self) -> None:
        """SIGKILL to all of its processes; returns when they are gone."""
        if self.end() is None:
            self.signal(signal.SIGKILL)
            self.await_end()

    def await_end(self, timeout: float = 30.0) -> int:
        """Wait until none of its processes is left; returns its exit status, or minus a signal."""
        deadline = time.monotonic() + timeout
        while (end := self.end()) is None:
            assert time.monotonic() < deadline, f"process group {self.pid} does not end"
            time.sleep(0.02)
        return end

    def end(self) -> int | None:
        """The same without waiting; None while there are processes."""
        end: int | None = self._zygote.ask(group=self.pid)
        return end

    def editor(self) -> psutil.Process:
        """Its editor process."""
        for process in psutil.Process(self.pid).children():
            if process.name() == editors.NAME:
                return process
        raise AssertionError("the editor is not running")
