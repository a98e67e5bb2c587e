"""A store in one SQLite file, which the processes of one machine can share."""

import logging
import os
import sqlite3
from contextlib import suppress
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Connection, create_engine, event
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from vllm_edit.domain.errors import StoreError, StoreLocked, StoreReplaced
from vllm_edit.ledger.database import Database, Operation, error_text
from vllm_edit.ledger.locks import FileLock
from vllm_edit.ledger.schema import SQLITE
from vllm_edit.processes.private_folder import make_private, open_to_others

logger = logging.getLogger(__name__)

BUSY_SECONDS = 5.0
"""How long an append waits for appends of other processes."""

_DAMAGED = ("SQLITE_CORRUPT", "SQLITE_NOTADB")
_BUSY = ("SQLITE_BUSY", "SQLITE_LOCKED")


class SqliteDatabase(Database):
    """Creates the file and its folder if they do not exist."""

    migrations = SQLITE

    def __init__(self, path: Path, name: str = "") -> None:
        self._path = path
        self._opened: os.stat_result | None = None
        self.name = name or str(path)
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            _keep_to_this_user(path)
        except OSError as error:
            raise StoreError(
                f"The edit store {path} cannot be made ({error}). Name another --edit-store."
            ) from error
        self.engine = create_engine(
            URL.create("sqlite", database=str(path)),
            # Without an isolation level a transaction begins only where `begin` is called.
            connect_args={
                "timeout": BUSY_SECONDS,
                "isolation_level": None,
                "check_same_thread": False,
            },
        )
        event.listen(self.engine, "connect", _prepare)

    def begin(self, connection: Connection) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE")

    def begin_migration(self, connection: Connection) -> None:
        self.begin(connection)

    def version(self, connection: Connection) -> int:
        version: int = connection.exec_driver_sql("PRAGMA user_version").scalar_one()
        return version

    def set_version(self, connection: Connection, version: int) -> None:
        connection.exec_driver_sql(f"PRAGMA user_version={version}")

    def wipe(self) -> None:
        with self.failures(Operation.WRITE), self.engine.connect() as connection:
            connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")

    def compact(self, connection: Connection) -> None:
        connection.exec_driver_sql("VACUUM")
        connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")

    def lock(self) -> FileLock:
        return FileLock(self._path.with_name(f"{self._path.name}.lock"))

    def require_same(self) -> None:
        # The open file stays what it is, and would be written to for nobody.
        try:
            now = self._path.stat()
        except OSError:
            now = None
        if now is None or (self._opened and not os.path.samestat(now, self._opened)):
            raise StoreReplaced(
                f"The edit store {self.name} was removed, moved or replaced; nothing was recorded. "
                "Start this server again: it serves what the store holds now."
            )

    def migrate(self) -> None:
        super().migrate()
        self._opened = self._path.stat()

    def failure(self, error: SQLAlchemyError, operation: Operation) -> StoreError:
        cause = error.orig if isinstance(error, DBAPIError) else None
        kind = getattr(cause, "sqlite_errorname", "")
        reason = error_text(error)
        if kind.startswith(_DAMAGED):
            return StoreError(
                f"{self.name} is not a readable edit store ({reason}). Restore it from a "
                "backup or name another --edit-store."
            )
        if operation is Operation.OPEN and kind.startswith(_BUSY):
            return StoreLocked(
                f"The edit store {self.name} cannot be opened ({reason}). If another server "
                "uses it, stop that one or give this one its own --edit-store."
            )
        if operation in (Operation.OPEN, Operation.READ):
            return StoreError(
                f"The edit store {self.name} cannot be {operation.value} ({reason}). See that "
                "its folder is there and may be written, and that the disk has room."
            )
        return StoreError(
            f"The edit store cannot be written ({reason}); nothing was recorded. Make "
            "room on its disk, or restart the server if it was moved."
        )


def _keep_to_this_user(path: Path) -> None:
    """Let nobody else read the file, nor those that SQLite makes beside it, with the same mode."""
    with suppress(FileExistsError):
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    for name in (path.name, f"{path.name}-wal", f"{path.name}-shm"):
        make_private(path.with_name(name))
    if open_to_others(path.parent):
        logger.warning(
            "Other users may enter the folder %s of the edit store: chmod 700 it.", path.parent
        )


def _prepare(connection: Any, _: object) -> None:
    assert isinstance(connection, sqlite3.Connection)  # noqa: S101
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=FULL")
    connection.execute("PRAGMA secure_delete=ON")  # what is erased leaves no trace in free pages
