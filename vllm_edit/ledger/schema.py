"""The tables of a store, and the statements that bring an older store up to date."""

from collections.abc import Mapping, Sequence

from sqlalchemy import BigInteger, Column, Float, Integer, LargeBinary, MetaData, Table, Text

_TABLES = MetaData()

EVENTS = Table(
    "events",
    _TABLES,
    Column("revision", BigInteger, primary_key=True, autoincrement=False),
    Column("kind", Text, nullable=False),
    Column("subject", Text, nullable=False),
    Column("status", Text, nullable=False),
    Column("detail", Text, nullable=False),
    Column("at", Float, nullable=False),
    Column("actor", Text, nullable=False),
    Column("hash", Text, nullable=False),
)
"""The log: revisions without gaps, in the order of their commits; never removed.

Of an event, only the detail may change, to one that says that its texts were erased. Version 3
leaves ``actor`` and ``hash`` empty.
"""

TERMS = Table(
    "terms",
    _TABLES,
    Column("term", BigInteger, primary_key=True, autoincrement=False),
    Column("at", Float, nullable=False),
    Column("address", Text, nullable=False),
)
"""Every leader begins a term, so that an append of an earlier leader can be refused.

``address`` is where other processes reach the leader.
"""

DELTAS = Table(
    "deltas",
    _TABLES,
    Column("name", Text, primary_key=True),
    Column("part", Integer, primary_key=True, autoincrement=False),
    Column("sha256", Text, nullable=False),
    Column("data", LargeBinary, nullable=False),
)
"""Delta files in parts, each row with the checksum of the whole file; PostgreSQL only."""

VERSION = 4
"""The schema that this version of vllm-edit writes."""

Migrations = Mapping[int, Sequence[str]]

SQLITE: Migrations = {
    1: (
        """
        CREATE TABLE events (
            revision INTEGER PRIMARY KEY AUTOINCREMENT,
            edit_id  TEXT NOT NULL,
            status   TEXT NOT NULL,
            detail   TEXT NOT NULL,
            at       REAL NOT NULL
        ) STRICT
        """,
        "CREATE INDEX events_by_edit ON events (edit_id)",
        """
        CREATE TRIGGER events_keep BEFORE DELETE ON events
            BEGIN SELECT RAISE(ABORT, 'the ledger is append-only'); END
        """,
        """
        CREATE TRIGGER events_freeze BEFORE UPDATE ON events
            BEGIN SELECT RAISE(ABORT, 'the ledger is append-only'); END
        """,
    ),
    # Events may name a batch and a superseding edit; versions that do not know these must stop.
    2: (),
    3: (
        "DROP INDEX events_by_edit",
        "ALTER TABLE events RENAME COLUMN edit_id TO subject",
        "ALTER TABLE events ADD COLUMN kind TEXT NOT NULL DEFAULT 'edit'",
        # INSERT OR REPLACE would bypass the trigger on DELETE.
        """
        CREATE TRIGGER events_follow BEFORE INSERT ON events
            WHEN NEW.revision <> (SELECT coalesce(max(revision), 0) + 1 FROM events)
            BEGIN SELECT RAISE(ABORT, 'the ledger is append-only and has no gaps'); END
        """,
        """
        CREATE TABLE terms (
            term    INTEGER PRIMARY KEY,
            at      REAL NOT NULL,
            address TEXT NOT NULL
        ) STRICT
        """,
    ),
    # A server of version 3 that runs already can go on.
    4: (
        "ALTER TABLE events ADD COLUMN actor TEXT NOT NULL DEFAULT ''",
        "ALTER TABLE events ADD COLUMN hash TEXT NOT NULL DEFAULT ''",
        "DROP TRIGGER events_freeze",
        """
        CREATE TRIGGER events_freeze BEFORE UPDATE ON events
            WHEN json_extract(NEW.detail, '$.erased') IS NULL
            OR (NEW.revision, NEW.kind, NEW.subject, NEW.status, NEW.at, NEW.actor, NEW.hash)
            <> (OLD.revision, OLD.kind, OLD.subject, OLD.status, OLD.at, OLD.actor, OLD.hash)
            BEGIN SELECT RAISE(ABORT, 'the ledger is append-only'); END
        """,
    ),
}
"""By version, the statements that bring a file there from the version before. Add, never change."""

POSTGRESQL: Migrations = {
    3: (
        """
        CREATE TABLE events (
            revision bigint PRIMARY KEY,
            kind     text NOT NULL,
            subject  text NOT NULL,
            status   text NOT NULL,
            detail   text NOT NULL,
            at       double precision NOT NULL
        )
        """,
        """
        CREATE FUNCTION events_refuse() RETURNS trigger LANGUAGE plpgsql AS
            $$ BEGIN RAISE EXCEPTION 'the ledger is append-only'; END $$
        """,
        """
        CREATE TRIGGER events_keep BEFORE UPDATE OR DELETE OR TRUNCATE ON events
            FOR EACH STATEMENT EXECUTE FUNCTION events_refuse()
        """,
        """
        CREATE FUNCTION events_follow() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
            IF NEW.revision <> (SELECT coalesce(max(revision), 0) + 1 FROM events) THEN
                RAISE EXCEPTION 'the ledger is append-only and has no gaps';
            END IF;
            RETURN NEW;
        END $$
        """,
        """
        CREATE TRIGGER events_follow BEFORE INSERT ON events
            FOR EACH ROW EXECUTE FUNCTION events_follow()
        """,
        """
        CREATE TABLE terms (
            term    bigint PRIMARY KEY,
            at      double precision NOT NULL,
            address text NOT NULL
        )
        """,
        """
        CREATE TABLE deltas (
            name   text NOT NULL,
            part   integer NOT NULL,
            sha256 text NOT NULL,
            data   bytea NOT NULL,
            PRIMARY KEY (name, part)
        )
        """,
        # Tensors do not compress.
        "ALTER TABLE deltas ALTER COLUMN data SET STORAGE EXTERNAL",
    ),
    4: (
        "ALTER TABLE events ADD COLUMN actor text NOT NULL DEFAULT ''",
        "ALTER TABLE events ADD COLUMN hash text NOT NULL DEFAULT ''",
        "DROP TRIGGER events_keep ON events",
        """
        CREATE TRIGGER events_keep BEFORE DELETE OR TRUNCATE ON events
            FOR EACH STATEMENT EXECUTE FUNCTION events_refuse()
        """,
        """
        CREATE TRIGGER events_freeze BEFORE UPDATE ON events FOR EACH ROW
            WHEN ((NEW.detail::json->>'erased') IS NULL
            OR (NEW.revision, NEW.kind, NEW.subject, NEW.status, NEW.at, NEW.actor, NEW.hash)
            <> (OLD.revision, OLD.kind, OLD.subject, OLD.status, OLD.at, OLD.actor, OLD.hash))
            EXECUTE FUNCTION events_refuse()
        """,
    ),
}
"""The same for PostgreSQL, which is supported since version 3."""
