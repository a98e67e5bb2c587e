"""Copies of a store's log, made without changing anything beside it."""

import shutil
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from vllm_edit.domain.errors import StoreError
from vllm_edit.ledger.ledger import Ledger
from vllm_edit.ledger.log import Log
from vllm_edit.ledger.sqlite import SqliteDatabase
from vllm_edit.ledger.store_database import LEDGER_FILE
from vllm_edit.store import Store


def ledger_file(store: Store) -> Path:
    """The log in the folder of a store; raises StoreError if there is none."""
    path = Path(store) / LEDGER_FILE
    if store.shared or not path.is_file():
        raise StoreError(
            f"{store.shown} is no edit store in a folder: name what was given as --edit-store."
        )
    return path


@contextmanager
def reading(store: Store) -> Iterator[Ledger]:
    """The ledger of a store as it is now, which a server may have open.

    Of a folder a copy is read: it may be one that cannot be written, and stays as it is. Raises
    StoreError.
    """
    if store.shared:
        with Ledger.open(store) as ledger:
            yield ledger
        return
    path = ledger_file(store)
    with tempfile.TemporaryDirectory(prefix="vllm-edit-") as folder:
        copy = Path(folder) / LEDGER_FILE
        take_snapshot(path, copy)
        with Ledger(Log(SqliteDatabase(copy, name=str(path)))) as ledger:
            yield ledger


def take_snapshot(log: Path, copy: Path) -> None:
    """Copy a log, which another process may be writing; raises StoreError."""
    try:
        if _beside(log, "-wal").is_file() and not _beside(log, "-shm").exists():
            # A copy of a store that was in use: SQLite could not read its newest events without
            # writing beside them.
            shutil.copyfile(log, copy)
            shutil.copyfile(_beside(log, "-wal"), _beside(copy, "-wal"))
            return
        # In an immutable file nothing is looked for beside it.
        mode = "mode=ro" if _beside(log, "-shm").exists() else "immutable=1"
        with (
            closing(sqlite3.connect(f"{log.resolve().as_uri()}?{mode}", uri=True)) as source,
            closing(sqlite3.connect(copy)) as target,
        ):
            source.backup(target)
    except (OSError, sqlite3.Error) as error:
        raise StoreError(
            f"The edit store {log} cannot be read ({error}). See that you may read its files, or "
            "restore it from a backup."
        ) from error


def _beside(path: Path, suffix: str) -> Path:
    return path.with_name(path.name + suffix)
