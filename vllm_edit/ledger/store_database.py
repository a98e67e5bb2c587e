"""The database of a store."""

from pathlib import Path

from vllm_edit.domain.errors import StoreError
from vllm_edit.ledger.database import Database
from vllm_edit.ledger.log import Log
from vllm_edit.ledger.postgresql import PostgresqlDatabase
from vllm_edit.ledger.shared_deltas import SharedDeltas
from vllm_edit.ledger.sqlite import SqliteDatabase
from vllm_edit.store import Store

LEDGER_FILE = "ledger.sqlite3"
"""The file of the log in a folder."""


def database_of(store: Store) -> Database:
    """The database of a store, not yet opened; raises StoreError."""
    if store.shared:
        return PostgresqlDatabase(store)
    if "://" in store:
        raise StoreError(
            f"{store.shown} is neither a folder nor a PostgreSQL database: write "
            "postgresql://USER@HOST:PORT/DATABASE."
        )
    return SqliteDatabase(Path(store) / LEDGER_FILE)


def deltas_of(log: Log) -> SharedDeltas | None:
    """The delta files beside a log; None if they are in the store's folder."""
    database = log.database
    return SharedDeltas(database) if isinstance(database, PostgresqlDatabase) else None
