"""What a log needs of the database that it is kept in."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from enum import Enum

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from vllm_edit.domain.errors import StoreError
from vllm_edit.ledger.locks import Lock
from vllm_edit.ledger.schema import VERSION, Migrations


class Doing(Enum):
    """What was being done when the database failed."""

    OPENING = "opened"
    READING = "read"
    WRITING = "written"
    COMMITTING = "committed"


class Database(ABC):
    """An engine, and what its dialect does in its own way.

    ``name`` is how messages call the store: there is no password in it.
    """

    engine: Engine
    name: str
    migrations: Migrations

    @abstractmethod
    def begin(self, connection: Connection) -> None:
        """Begin a transaction that appends; there is one at a time, and it sees all before it."""

    @abstractmethod
    def begin_migration(self, connection: Connection) -> None:
        """The same, before there are tables."""

    @abstractmethod
    def version(self, connection: Connection) -> int:
        """The version of the schema; 0 in an empty database."""

    @abstractmethod
    def set_version(self, connection: Connection, version: int) -> None:
        """Note the version, with the transaction that is going on."""

    @abstractmethod
    def lock(self) -> Lock:
        """What the leader of this store holds."""

    @abstractmethod
    def failure(self, error: SQLAlchemyError, doing: Doing) -> StoreError:
        """The error that tells a person what to do about the database's."""

    @contextmanager
    def failures(self, doing: Doing) -> Iterator[None]:
        """Raise the database's errors as StoreError."""
        try:
            yield
        except SQLAlchemyError as error:
            raise self.failure(error, doing) from error

    def migrate(self) -> None:
        """Bring the tables up to date; raises StoreError for those of a newer version."""
        with self.failures(Doing.OPENING), self.engine.connect() as connection:
            version = self.version(connection)
            connection.rollback()
            if version < VERSION:
                self.begin_migration(connection)
                version = self.version(connection)
                self._run_migrations(connection, version)
                connection.commit()
        if version > VERSION:
            raise StoreError(
                f"{self.name} was written by a newer version of vllm-edit (schema {version}, this "
                f"one knows {VERSION}). Upgrade vllm-edit to use it."
            )

    def _run_migrations(self, connection: Connection, version: int) -> None:
        for number in range(version + 1, VERSION + 1):
            for statement in self.migrations.get(number, ()):
                connection.exec_driver_sql(statement)
            self.set_version(connection, number)


def said(error: SQLAlchemyError) -> str:
    """The database's own words, in one line and without the statement and its values."""
    cause = error.orig if isinstance(error, DBAPIError) else error
    return " ".join(str(cause).split())
