"""What a log needs of its database."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from enum import Enum

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from vllm_edit.domain.errors import StoreError
from vllm_edit.ledger.locks import Lock
from vllm_edit.ledger.schema import VERSION, Migrations


class Operation(Enum):
    """What the database was asked to do; the value is the participle for messages."""

    OPEN = "opened"
    READ = "read"
    WRITE = "written"
    COMMIT = "committed"


class Database(ABC):
    """An SQLAlchemy engine, and what differs between SQLite and PostgreSQL.

    ``name`` is the store's name in messages, without a password.
    """

    engine: Engine
    name: str
    migrations: Migrations

    @abstractmethod
    def begin(self, connection: Connection) -> None:
        """Begin a transaction that appends: one at a time, and it sees every earlier one."""

    @abstractmethod
    def begin_migration(self, connection: Connection) -> None:
        """Begin a transaction in the same way while there may be no tables yet."""

    @abstractmethod
    def version(self, connection: Connection) -> int:
        """The version of the schema; 0 in an empty database."""

    @abstractmethod
    def set_version(self, connection: Connection, version: int) -> None:
        """Store the version as part of the current transaction."""

    @abstractmethod
    def compact(self, connection: Connection) -> None:
        """Give the room of removed rows back."""

    @abstractmethod
    def lock(self) -> Lock:
        """The lock that the leader of this store holds."""

    @abstractmethod
    def require_same(self) -> None:
        """Raise StoreReplaced if another database is where this one was when it was opened."""

    @abstractmethod
    def failure(self, error: SQLAlchemyError, operation: Operation) -> StoreError:
        """The error for people, which says what to do about the database's error."""

    @abstractmethod
    def wipe(self) -> None:
        """Remove what was overwritten from the database's own files, as far as it can be."""

    @contextmanager
    def failures(self, operation: Operation) -> Iterator[None]:
        """Raise errors of the database as StoreError."""
        try:
            yield
        except SQLAlchemyError as error:
            raise self.failure(error, operation) from error

    def commit(self, connection: Connection, operation: Operation = Operation.COMMIT) -> None:
        """Commit; raises StoreError.

        After a failed commit the transaction may still be open, and SQLAlchemy would hand its
        connection to the next reader, who would see what was never committed. So that is dropped.
        """
        with self.failures(operation):
            try:
                connection.commit()
            except SQLAlchemyError:
                connection.invalidate()
                raise

    def migrate(self) -> None:
        """Bring the tables up to date; raises StoreError if a newer version made them."""
        with self.failures(Operation.OPEN), self.engine.connect() as connection:
            version = self.version(connection)
            connection.rollback()
            if version < VERSION:
                self.begin_migration(connection)
                version = self.version(connection)
                self._run_migrations(connection, version)
                self.commit(connection, Operation.OPEN)
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


def error_text(error: SQLAlchemyError) -> str:
    """The database's own message, on one line, without the statement and its values."""
    cause = error.orig if isinstance(error, DBAPIError) else error
    return " ".join(str(cause).split())
