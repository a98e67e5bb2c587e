"""A PostgreSQL server in a folder of its own, on a Unix socket only."""

import os
import shutil
import signal
import subprocess
import tempfile
import time
from itertools import count
from pathlib import Path
from typing import Self
from urllib.parse import urlencode

import psycopg
from psycopg import sql

from vllm_edit.store import Store


def _binaries() -> Path | None:
    """Where the server's programs are: on the PATH, or where Debian keeps the newest."""
    found = shutil.which("pg_ctl")
    folders = [Path(found).parent] if found else []
    folders += sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    return next((folder for folder in folders if (folder / "initdb").exists()), None)


_BINARIES = _binaries()
MISSING = "" if _BINARIES else "PostgreSQL's server programs (initdb, pg_ctl) are not installed"

# The server refuses to run as root; Debian's package brings this user.
_USER = "postgres" if os.geteuid() == 0 else None

_CONFIGURATION = """
listen_addresses = ''
unix_socket_directories = '{folder}'
max_connections = 50
shared_buffers = 16MB
# The machine itself does not fail here, and what is written need not wait for its disk.
fsync = off
"""


class Postgres:
    """Runs while the context lasts. Every user may do everything, without a password."""

    def __init__(self) -> None:
        # Its socket's path must be short.
        self.folder = Path(tempfile.mkdtemp(prefix="pg-", dir="/tmp"))
        self._data = self.folder / "data"
        self._numbers = count()

    def __enter__(self) -> Self:
        if _USER:
            shutil.chown(self.folder, _USER)
        self._run("initdb", "-A", "trust", "-U", "postgres", "-N", "-D", self._data)
        with (self._data / "postgresql.conf").open("a") as file:
            file.write(_CONFIGURATION.format(folder=self.folder))
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop("immediate")
        shutil.rmtree(self.folder)

    def start(self) -> None:
        """Start it; what a killed one has left behind may take a moment to go."""
        deadline = time.monotonic() + 30
        while True:
            try:
                self._run("pg_ctl", "start", "-w", "-D", self._data, "-l", self.folder / "log")
            except subprocess.CalledProcessError:
                if time.monotonic() > deadline:
                    raise
            else:
                return

    def stop(self, mode: str = "fast") -> None:
        self._run("pg_ctl", "stop", "-w", "-m", mode, "-D", self._data)

    def kill(self) -> None:
        """SIGKILL to the server, whose children notice; started again, it recovers."""
        pid = int((self._data / "postmaster.pid").read_text().split()[0])
        os.kill(pid, signal.SIGKILL)

    def new_store(self, options: str = "") -> Store:
        """A store in a schema of its own, whose sessions have these options."""
        name = f"store_{next(self._numbers)}"
        with psycopg.connect(host=str(self.folder), user="postgres") as connection:
            connection.execute(sql.SQL("CREATE SCHEMA {}").format(sql.Identifier(name)))
        query = urlencode({"host": self.folder, "options": f"-c search_path={name} {options}"})
        return Store(f"postgresql://postgres:secret-word@/postgres?{query}")

    def _run(self, program: str, *arguments: object) -> None:
        assert _BINARIES is not None
        subprocess.run(
            [str(_BINARIES / program), *map(str, arguments)],
            user=_USER,
            group=_USER,
            extra_groups=[] if _USER else None,
            cwd="/",
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            # The server that pg_ctl leaves behind writes to its log.
            stderr=subprocess.DEVNULL,
            check=True,
        )
