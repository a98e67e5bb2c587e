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
"""


class Postgres:
    """Runs while the context lasts. Every user may do everything, without a password."""

    def __init__(self) -> None:
        # Its socket's path must be short.
        self._folder = Path(tempfile.mkdtemp(prefix="pg-", dir="/tmp"))
        self._data = self._folder / "data"
        self._numbers = count()

    def __enter__(self) -> Self:
        if _USER:
            shutil.chown(self._folder, _USER)
        self._run("initdb", "-A", "trust", "-U", "postgres", "-N", "-D", self._data)
        with (self._data / "postgresql.conf").open("a") as file:
            file.write(_CONFIGURATION.format(folder=self._folder))
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        shutil.rmtree(self._folder)

    def start(self) -> None:
        """Start it; what a killed one has left behind may take a moment to go."""
        deadline = time.monotonic() + 30
        while True:
            try:
                self._run("pg_ctl", "start", "-w", "-D", self._data, "-l", self._folder / "log")
            except subprocess.CalledProcessError:
                if time.monotonic() > deadline:
                    raise
            else:
                return

    def stop(self) -> None:
        self._run("pg_ctl", "stop", "-w", "-m", "fast", "-D", self._data)

    def kill(self) -> None:
        """SIGKILL to the server, whose children notice; started again, it recovers."""
        pid = int((self._data / "postmaster.pid").read_text().split()[0])
        os.kill(pid, signal.SIGKILL)

    def new_store(self) -> Store:
        """A store in a database of its own."""
        name = f"store_{next(self._numbers)}"
        with self._connect("postgres") as connection:
            connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
        return Store(f"postgresql://postgres:secret-word@/{name}?host={self._folder}")

    def _connect(self, database: str) -> "psycopg.Connection[tuple[object, ...]]":
        return psycopg.connect(
            host=str(self._folder), user="postgres", dbname=database, autocommit=True
        )

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
