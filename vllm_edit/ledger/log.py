"""The durable, append-only log: the only truth.

Every change of state is one event, and the event's number is the revision. The database refuses
to change or remove events. The edits in memory, the index and the engine are rebuilt from here.
"""

import json
import time
from collections.abc import Iterator, Sequence
from typing import Any, Self

from sqlalchemy import Connection, Row, func, insert, select

from vllm_edit.domain.errors import StoreError, StoreLocked
from vllm_edit.ledger.database import Database, Operation
from vllm_edit.ledger.event import Entry, Event
from vllm_edit.ledger.schema import EVENTS, TERMS

READ_AT_ONCE = 1000


class Log:
    """Events in a database that several processes may have open. Thread-safe.

    Revisions have no gaps and follow the order of commits: after one is seen, no smaller one
    appears. Events are durable when an append returns.

    Raises:
        StoreLocked: a server of an older version has the file open.
        StoreError: this is no log, a newer version wrote it, or it cannot be reached.
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

        ``term`` is the term of the leader that appends.

        Raises:
            StoreLocked: another leader has begun a term since.
            StoreError: the database cannot record them.
        """
        if not entries:
            return []
        database = self.database
        with database.failures(Operation.WRITE), database.engine.connect() as connection:
            database.begin(connection)
            if term is not None and term != _term(connection):
                raise StoreLocked(
                    f"Another server leads the edit store {database.name} now; nothing was "
                    "recorded. Restart this one to follow it."
                )
            rows = _numbered(entries, _latest(connection) + 1)
            connection.execute(insert(EVENTS), rows)
            database.commit(connection)
        return [_event(**row) for row in rows]

    def read(self, after: int = 0) -> Iterator[Event]:
        """The events after revision ``after``, in order; raises StoreError."""
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
            self.database.failures(Operation.READ),
            self.database.engine.connect() as connection,
        ):
            return _latest(connection)

    def leader(self) -> str:
        """The address of the latest leader, which may have ended; empty if there was none."""
        with (
            self.database.failures(Operation.READ),
            self.database.engine.connect() as connection,
        ):
            latest = select(TERMS.c.address).order_by(TERMS.c.term.desc()).limit(1)
            return connection.scalar(latest) or ""

    def begin_term(self, address: str = "") -> int:
        """Begin the term of a new leader; the one before can append no more.

        When this returns, everything that the former leader recorded can be read.
        """
        database = self.database
        with database.failures(Operation.WRITE), database.engine.connect() as connection:
            database.begin(connection)
            term = _term(connection) + 1
            connection.execute(insert(TERMS), {"term": term, "at": time.time(), "address": address})
            database.commit(connection)
        return term

    def close(self) -> None:
        self.database.engine.dispose()

    def _rows(self, after: int) -> Sequence[Row[Any]]:
        query = select(EVENTS).where(EVENTS.c.revision > after).order_by(EVENTS.c.revision)
        with (
            self.database.failures(Operation.READ),
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
