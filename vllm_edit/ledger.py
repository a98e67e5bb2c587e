"""The durable, append-only log of edits: the only truth.

Every change of an edit's state is one row of ``events``, and the row's number is the revision.
Rows are never changed or removed (the database itself refuses it). What the server holds in
memory, in the index and in the engine is derived from here and rebuilt from here.
"""

import json
import sqlite3
import threading
import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Self

from vllm_edit.edit import Edit, EditRequest, Failure, Proposal, Status, Step
from vllm_edit.errors import StoreError, StoreLocked, UnknownEdit

MIGRATIONS = (
    """
    CREATE TABLE events (
        revision INTEGER PRIMARY KEY AUTOINCREMENT,
        edit_id  TEXT NOT NULL,
        status   TEXT NOT NULL,
        detail   TEXT NOT NULL,
        at       REAL NOT NULL
    ) STRICT;
    CREATE INDEX events_by_edit ON events (edit_id);
    CREATE TRIGGER events_keep BEFORE DELETE ON events
        BEGIN SELECT RAISE(ABORT, 'the ledger is append-only'); END;
    CREATE TRIGGER events_freeze BEFORE UPDATE ON events
        BEGIN SELECT RAISE(ABORT, 'the ledger is append-only'); END;
    """,
    "-- Events may name a batch and a superseding edit: who does not know them must not read on.",
)
"""Statements that bring the schema from version n to n + 1; only ever appended to."""


class Ledger:
    """The log in one SQLite file, open by at most one server at a time.

    A call that returns has made its rows durable (WAL, ``synchronous=FULL``). Thread-safe.

    Raises:
        StoreLocked: another process has the file open.
        StoreError: the file is not a ledger, or was written by a newer version.
    """

    def __init__(self, path: Path) -> None:
        self._lock = threading.Lock()
        self._edits: dict[str, Edit] = {}
        self._revision = 0
        self._connection = _open(path)
        for row in self._connection.execute(
            "SELECT revision, edit_id, status, detail, at FROM events ORDER BY revision"
        ):
            self._fold(*row)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def revision(self) -> int:
        """The number of the latest event; 0 for an empty ledger."""
        return self._revision

    def edits(self) -> list[Edit]:
        """All edits ever proposed, in the order they were proposed."""
        with self._lock:
            return list(self._edits.values())

    def get(self, edit_id: str) -> Edit:
        """The edit with that id; raises UnknownEdit."""
        with self._lock:
            edit = self._edits.get(edit_id)
        if edit is None:
            raise UnknownEdit(f"No edit has the id {edit_id!r}; GET /v1/edits lists them.")
        return edit

    def propose(self, proposals: Sequence[Proposal]) -> list[Edit]:
        """Record new edits under fresh ids, all or none."""
        self._append([(p.id, Status.PROPOSED, _proposal(p)) for p in proposals])
        return [self.get(proposal.id) for proposal in proposals]

    def advance(
        self, edit_ids: Sequence[str], status: Status, failure: Failure | None = None
    ) -> list[Edit]:
        """Record that edits entered ``status``, all or none; returns them as they are now."""
        return self.record([Step(edit_id, status, failure) for edit_id in edit_ids])

    def record(self, steps: Sequence[Step]) -> list[Edit]:
        """Record several edits' steps in this order, all or none; returns them as they are now."""
        for step in steps:
            self.get(step.edit_id)
        self._append([(step.edit_id, step.status, _explanation(step)) for step in steps])
        return [self.get(step.edit_id) for step in steps]

    def close(self) -> None:
        with self._lock:
            self._connection.close()

    def _append(self, rows: Sequence[tuple[str, Status, dict[str, Any]]]) -> None:
        at = time.time()
        texts = [json.dumps(detail, ensure_ascii=False) for _, _, detail in rows]
        written = []
        with self._lock:
            try:
                with self._connection:
                    for (edit_id, status, _), text in zip(rows, texts, strict=True):
                        cursor = self._connection.execute(
                            "INSERT INTO events (edit_id, status, detail, at) VALUES (?, ?, ?, ?)",
                            (edit_id, status.value, text, at),
                        )
                        written.append((cursor.lastrowid or 0, edit_id, status.value, text, at))
            except sqlite3.Error as error:
                raise StoreError(
                    f"The edit store cannot be written ({error}); nothing was recorded. Make "
                    "room on its disk, or restart the server if it was moved."
                ) from error
            for row in written:
                self._fold(*row)

    def _fold(self, revision: int, edit_id: str, status: str, detail: str, at: float) -> None:
        self._revision = revision
        told = json.loads(detail)
        if "request" in told:
            self._edits[edit_id] = Edit(
                id=edit_id,
                request=EditRequest(**told["request"]),
                status=Status(status),
                proposed=revision,
                revision=revision,
                created_at=at,
                updated_at=at,
                batch=told.get("batch"),
            )
        else:
            self._edits[edit_id] = replace(
                self._edits[edit_id],
                status=Status(status),
                revision=revision,
                updated_at=at,
                failure=Failure(**told["failure"]) if "failure" in told else None,
                superseded_by=told.get("superseded_by"),
            )


def _proposal(proposal: Proposal) -> dict[str, Any]:
    detail: dict[str, Any] = {"request": asdict(proposal.request)}
    return detail | {"batch": proposal.batch} if proposal.batch else detail


def _explanation(step: Step) -> dict[str, Any]:
    detail: dict[str, Any] = {"failure": asdict(step.failure)} if step.failure else {}
    return detail | {"superseded_by": step.superseded_by} if step.superseded_by else detail


def _open(path: Path) -> sqlite3.Connection:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    connection = sqlite3.connect(path, timeout=1.0, check_same_thread=False)
    try:
        # Exclusive mode holds the file from the first write until the process ends, however
        # it ends; a second server on the same store fails here and not in the middle of its work.
        connection.execute("PRAGMA locking_mode=EXCLUSIVE")
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=FULL")
        _migrate(connection, path)
    except sqlite3.OperationalError as error:
        connection.close()
        raise StoreLocked(
            f"The edit store {path} cannot be opened ({error}). If another server uses it, stop "
            "that one or give this one its own --edit-store."
        ) from error
    except sqlite3.DatabaseError as error:
        connection.close()
        raise StoreError(
            f"{path} is not a readable edit store ({error}). Restore it from a backup or name "
            "another --edit-store."
        ) from error
    except StoreError:
        connection.close()
        raise
    return connection


def _migrate(connection: sqlite3.Connection, path: Path) -> None:
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if version > len(MIGRATIONS):
        raise StoreError(
            f"{path} was written by a newer version of vllm-edit (schema {version}, this one "
            f"knows {len(MIGRATIONS)}). Upgrade vllm-edit to use it."
        )
    connection.execute("BEGIN EXCLUSIVE")
    for number, statements in enumerate(MIGRATIONS[version:], start=version + 1):
        connection.executescript(statements)
        connection.execute(f"PRAGMA user_version={number}")
    if connection.in_transaction:
        connection.commit()
