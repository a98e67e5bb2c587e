"""The durable, append-only log: the only truth.

Every change of state is one event, and the event's number is the revision. Events are never
changed or removed (the database itself refuses it). What the server holds in memory, in the index
and in the engine is derived from here and rebuilt from here.
"""

import json
import time
from collections.abc import Iterator, Sequence
from typing import Any, Self

from sqlalchemy import Connection, Row, func, insert, select

from vllm_edit.domain.errors import StoreError, StoreLocked
from vllm_edit.ledger.database import Database, Doing
from vllm_edit.ledger.event import Entry, Event
from vllm_edit.ledger.schema import EVENTS, TERMS

READ_AT_ONCE = 1000


class Log:
    """Events in a database that several processes may have open. Thread-safe.

    Revisions have no gaps and follow the order of commits: who has seen one never finds a smaller
    one later. An append that returns has made its events durable.

    Raises:
        StoreLocked: a server of an older version has the file for itself.
        StoreError: this is no log, or was written by a newer version, or cannot be reached.
    """

    def __init__(self, database: Database) -> None:
        self.database = database
        try:
            database.migrate()
        except StoreError:
            database.engine.dispose()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def append(self, entries: Sequence[Entry], term: int | None = None) -> list[Event]:
        """Record entries in this order, all or none.

        ``term`` is that of the leader who appends.

        Raises:
            StoreLocked: another has begun a term since.
            StoreError: the database cannot take them.
        """
        if not entries:
            return []
        database = self.database
        with database.failures(Doing.WRITING), database.engine.connect() as connection:
            database.begin(connection)
            if term is not None and term != _term(connection):
                raise StoreLocked(
                    f"Another server leads the edit store {database.name} now; nothing was "
                    "recorded. Restart this one to follow it."
                )
            rows = _numbered(entries, _latest(connection) + 1)
            connection.execute(insert(EVENTS), rows)
            with database.failures(Doing.COMMITTING):
                connection.commit()
        return [_event(**row) for row in rows]

    def read(self, after: int = 0) -> Iterator[Event]:
        """The events of revisions greater than ``after``, by revision; raises StoreError."""
        while True:
            rows = self._rows(after)
            for row in rows:
                yield self._read_event(row)
            if len(rows) < READ_AT_ONCE:
                return
            after = rows[-1].revision

    def latest(self) -> int:
        """The greatest revision; 0 in an empty log."""
        with (
            self.database.failures(Doing.READING),
            self.database.engine.connect() as connection,
        ):
            return _latest(connection)

    def leader(self) -> str:
        """The address of the latest term's leader, which may have ended; empty if none led."""
        with (
            self.database.failures(Doing.READING),
            self.database.engine.connect() as connection,
        ):
            latest = select(TERMS.c.address).order_by(TERMS.c.term.desc()).limit(1)
            return connection.scalar(latest) or ""

    def begin_term(self, address: str = "") -> int:
        """Begin the term of a new leader: who led before can append no more.

        What that one has recorded is there when this returns.
        """
        database = self.database
        with database.failures(Doing.WRITING), database.engine.connect() as connection:
            database.begin(connection)
            term = _term(connection) + 1
            connection.execute(insert(TERMS), {"term": term, "at": time.time(), "address": address})
            connection.commit()
        return term

    def close(self) -> None:
        self.database.engine.dispose()

    def _rows(self, after: int) -> Sequence[Row[Any]]:
        query = select(EVENTS).where(EVENTS.c.revision > after).order_by(EVENTS.c.revision)
        with (
            self.database.failures(Doing.READING),
            self.database.engine.connect() as connection,
        ):
            return connection.execute(query.limit(READ_AT_ONCE)).all()

    def _read_event(self, row: Row[Any]) -> Event:
        try:
            return _event(**row._asdict())
        except ValueError as error:
            raise StoreError(
                f"Revision {row.revision} of the edit store {self.database.name} is damaged "
                f"({error}). Restore the store from a backup."
            ) from error


def _numbered(entries: Sequence[Entry], first: int) -> list[dict[str, Any]]:
    """The rows of entries, from revision ``first`` on."""
    at = time.time()
    return [
        vars(entry)
        | {"detail": json.dumps(entry.detail, ensure_ascii=False), "revision": revision, "at": at}
        for revision, entry in enumerate(entries, first)
    ]


def _event(*, detail: str, **columns: Any) -> Event:
    return Event(detail=json.loads(detail), **columns)


def _latest(connection: Connection) -> int:
    return connection.scalar(select(func.max(EVENTS.c.revision))) or 0


def _term(connection: Connection) -> int:
    return connection.scalar(select(func.max(TERMS.c.term))) or 0
