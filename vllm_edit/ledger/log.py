"""The durable, append-only log: the only truth.

Every change of state is one event, and the event's number is the revision. The database refuses
to remove events, and to change more of one than the texts that are erased from it. The edits in
memory, the index and the engine are rebuilt from here.
"""

import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from typing import Any, Self

from sqlalchemy import Connection, Row, func, insert, select, update

from vllm_edit.domain.actor import Actor, current_actor
from vllm_edit.domain.errors import StoreError, StoreLocked, StoreReplaced
from vllm_edit.domain.json_values import from_json
from vllm_edit.ledger.chain import ERASED, chained, digest
from vllm_edit.ledger.database import Database, Operation
from vllm_edit.ledger.event import Entry, Event
from vllm_edit.ledger.schema import EVENTS, TERMS

READ_AT_ONCE = 1000

ERASURE = "erasure"
"""The kind of events that say that a thing's texts were erased."""


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

    def append(
        self, entries: Sequence[Entry], term: int | None = None, tip: Event | None = None
    ) -> list[Event]:
        """Record entries in this order, all or none, as made by `current_actor`.

        ``term`` is the term of the leader that appends, ``tip`` the latest event that it has read.

        Raises:
            StoreReplaced: the log does not hold the tip, see `require`.
            StoreLocked: another leader has begun a term since.
            StoreError: the database cannot record them.
        """
        if not entries:
            return []
        with self._appending(term, tip) as connection:
            return _insert(connection, entries)

    def erase(
        self,
        kind: str,
        subject: str,
        without_texts: Callable[[Mapping[str, Any]], Mapping[str, Any]],
        term: int | None = None,
        tip: Event | None = None,
    ) -> list[Event]:
        """Erase the texts in all details about a thing, and record that; raises as `append` does.

        The chain stays valid: it knows details by their digests, and the new event those of what
        is in their place.
        """
        about = (EVENTS.c.kind == kind) & (EVENTS.c.subject == subject)
        with self._appending(term, tip) as connection:
            query = select(EVENTS.c.revision, EVENTS.c.detail).where(about)
            left: dict[str, str] = {}
            for revision, text in connection.execute(query).all():
                detail = json.loads(text)
                if ERASED in detail:
                    continue
                new = _json({ERASED: digest(text), **without_texts(detail)})
                replaced = update(EVENTS).where(EVENTS.c.revision == revision)
                connection.execute(replaced.values(detail=new))
                left[str(revision)] = digest(new)
            events = _insert(connection, [Entry(ERASURE, subject, ERASED, {"left": left})])
        self.database.wipe()
        return events

    @contextmanager
    def _appending(self, term: int | None, tip: Event | None) -> Iterator[Connection]:
        """A transaction that ends with the block; see `append`."""
        database = self.database
        if tip is not None:
            database.require_same()
        with database.failures(Operation.WRITE), database.engine.connect() as connection:
            database.begin(connection)
            if tip is not None:
                self._require_on(connection, tip)
            if term is not None and term != _term(connection):
                raise StoreLocked(
                    f"Another server leads the edit store {database.name} now; nothing was "
                    "recorded. This one follows it in a moment: try again."
                )
            yield connection
            database.commit(connection)

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

    def term(self) -> int:
        """The number of the latest term; 0 if there was none."""
        with (
            self.database.failures(Operation.READ),
            self.database.engine.connect() as connection,
        ):
            return _term(connection)

    def require(self, event: Event) -> None:
        """Raise StoreReplaced unless the log holds this event, which was read or appended before.

        It holds those before it too then: in another history it would have another time, and
        another hash.
        """
        self.database.require_same()
        with (
            self.database.failures(Operation.READ),
            self.database.engine.connect() as connection,
        ):
            self._require_on(connection, event)

    def _require_on(self, connection: Connection, event: Event) -> None:
        if _identity(connection, event.revision) != (event.subject, event.at, event.hash):
            raise StoreReplaced(
                f"The edit store {self.database.name} is no longer the one that this server has "
                f"followed up to revision {event.revision}: it was restored from a backup, or "
                "replaced. Nothing was recorded. Start this server again: it serves what the store "
                "holds now."
            )

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

    def compact(self) -> None:
        """Give free room back; every event stays. Raises StoreError."""
        database = self.database
        with database.failures(Operation.WRITE), database.engine.connect() as connection:
            database.compact(connection)

    def close(self) -> None:
        self.database.engine.dispose()

    def first(self, after: int, limit: int, subject: str | None = None) -> list[Event]:
        """The first events after revision ``after``, about everything or one thing."""
        return [self._read_event(row) for row in self._rows(after, limit, subject)]

    def _rows(
        self, after: int, limit: int = READ_AT_ONCE, subject: str | None = None
    ) -> Sequence[Row[Any]]:
        query = select(EVENTS).where(EVENTS.c.revision > after).order_by(EVENTS.c.revision)
        if subject is not None:
            query = query.where(EVENTS.c.subject == subject)
        with (
            self.database.failures(Operation.READ),
            self.database.engine.connect() as connection,
        ):
            return connection.execute(query.limit(limit)).all()

    def _read_event(self, row: Row[Any]) -> Event:
        try:
            return _event(**row._asdict())
        except ValueError as error:
            raise StoreError(
                f"Revision {row.revision} of the edit store {self.database.name} is damaged "
                f"({error}). Restore the store from a backup."
            ) from error


def _insert(connection: Connection, entries: Sequence[Entry]) -> list[Event]:
    """Add entries behind the latest event."""
    query = select(EVENTS.c.revision, EVENTS.c.hash).order_by(EVENTS.c.revision.desc()).limit(1)
    revision, previous = connection.execute(query).one_or_none() or (0, "")
    at, actor = time.time(), current_actor()
    actor_text = "" if actor is None else _json(asdict(actor))
    events: list[Event] = []
    rows: list[dict[str, Any]] = []
    for number, entry in enumerate(entries, revision + 1):
        detail = _json(entry.detail)
        columns = vars(entry) | {"detail": json.loads(detail), "revision": number, "at": at}
        event = Event(**columns, actor=actor, digest=digest(detail))
        previous = chained(previous, event)
        events.append(replace(event, hash=previous))
        rows.append(columns | {"detail": detail, "actor": actor_text, "hash": previous})
    connection.execute(insert(EVENTS), rows)
    return events


def _event(*, detail: str, actor: str, **columns: Any) -> Event:
    parsed = json.loads(detail)
    stored = digest(detail)
    erased = ERASED in parsed
    return Event(
        **columns,
        detail=parsed,
        actor=from_json(Actor, json.loads(actor)) if actor else None,
        digest=str(parsed[ERASED]) if erased else stored,
        erased=stored if erased else "",
    )


def _json(value: Mapping[str, Any]) -> str:
    return json.dumps(value, ensure_ascii=False)


def _latest(connection: Connection) -> int:
    return connection.scalar(select(func.max(EVENTS.c.revision))) or 0


def _term(connection: Connection) -> int:
    return connection.scalar(select(func.max(TERMS.c.term))) or 0


def _identity(connection: Connection, revision: int) -> tuple[str, float, str] | None:
    """What is one event's alone, whether its texts were erased or not; None if there is none."""
    query = select(EVENTS.c.subject, EVENTS.c.at, EVENTS.c.hash)
    row = connection.execute(query.where(EVENTS.c.revision == revision)).one_or_none()
    return None if row is None else (row.subject, row.at, row.hash)
