"""A store in a PostgreSQL database, which servers on several machines can share."""

import threading
from contextlib import suppress

from sqlalchemy import URL, Connection, Engine, create_engine, make_url, text
from sqlalchemy.exc import ArgumentError, DBAPIError, SQLAlchemyError

from vllm_edit.domain.errors import StoreError
from vllm_edit.ledger.database import Database, Operation, error_text
from vllm_edit.ledger.schema import POSTGRESQL
from vllm_edit.store import Store

LOCK_SECONDS = 10
"""How long an append waits for appends of other servers."""

# Advisory locks belong to the whole database: the first number marks ours, the second one the
# schema of the tables.
_APPEND, _LEAD, _DELTA = 0x76656101, 0x76656102, 0x76656103

_CONNECT = {"connect_timeout": 10, "application_name": "vllm-edit"}
# Both ends notice after 5 + 3 * 5 seconds that the other machine is gone.
_KEEPALIVES = {"idle": 5, "interval": 5, "count": 3}


class PostgresqlDatabase(Database):
    """Creates the tables where there are none."""

    migrations = POSTGRESQL

    def __init__(self, store: Store) -> None:
        url = _url(store)
        self.name = store.shown
        try:
            self.engine = create_engine(
                url,
                # The database may have been restarted since a connection was last used.
                pool_pre_ping=True,
                pool_size=2,
                # An append must see what was committed while it waited for its turn.
                isolation_level="READ COMMITTED",
                connect_args={
                    key: value for key, value in _CONNECT.items() if key not in url.query
                },
            )
        except ModuleNotFoundError as error:
            raise StoreError(
                "A PostgreSQL store needs the package psycopg: pip install 'vllm-edit[postgres]'."
            ) from error

    def begin(self, connection: Connection) -> None:
        connection.execute(
            text(
                "SELECT set_config('lock_timeout', :limit, true), CASE WHEN "
                "current_setting('synchronous_commit') = 'off' "
                "THEN set_config('synchronous_commit', 'on', true) END"
            ),
            {"limit": f"{LOCK_SECONDS}s"},
        )
        connection.execute(
            text("SELECT pg_advisory_xact_lock(:space, hashtext(current_schema()))"),
            {"space": _APPEND},
        )

    def begin_migration(self, connection: Connection) -> None:
        self.begin(connection)
        connection.exec_driver_sql("CREATE TABLE IF NOT EXISTS schema_version (version integer)")

    def begin_delta(self, connection: Connection, name: str) -> None:
        """Begin a transaction that writes the delta of that name, one at a time."""
        connection.execute(
            text("SELECT pg_advisory_xact_lock(:space, hashtext(current_schema() || :name))"),
            {"space": _DELTA, "name": name},
        )

    def version(self, connection: Connection) -> int:
        there = connection.exec_driver_sql("SELECT to_regclass('schema_version') IS NOT NULL")
        if not there.scalar_one():
            return 0
        versions = "SELECT coalesce(max(version), 0) FROM schema_version"
        version: int = connection.exec_driver_sql(versions).scalar_one()
        return version

    def set_version(self, connection: Connection, version: int) -> None:
        connection.execute(text("DELETE FROM schema_version"))
        connection.execute(text("INSERT INTO schema_version VALUES (:v)"), {"v": version})

    def wipe(self) -> None:
        options = {"isolation_level": "AUTOCOMMIT"}
        with (
            self.failures(Operation.WRITE),
            self.engine.connect().execution_options(**options) as connection,
        ):
            connection.exec_driver_sql("VACUUM events")

    def compact(self, connection: Connection) -> None:
        """The database does it by itself (autovacuum)."""

    def lock(self) -> "SessionLock":
        return SessionLock(self)

    def require_same(self) -> None:
        """Nothing to do: a connection to a database that was dropped fails."""

    def failure(self, error: SQLAlchemyError, operation: Operation) -> StoreError:
        lost = isinstance(error, DBAPIError) and error.connection_invalidated
        if operation is Operation.COMMIT and lost:
            outcome = "; whether it was recorded is not known"
        elif operation in (Operation.WRITE, Operation.COMMIT):
            outcome = "; nothing was recorded"
        else:
            outcome = ""
        reason = error_text(error)
        verb = "written" if operation is Operation.COMMIT else operation.value
        return StoreError(
            f"The edit store {self.name} cannot be {verb} ({reason}){outcome}. See that the "
            "database runs, has room and lets this user in, and try again."
        )


class SessionLock:
    """An advisory lock of a session that does nothing else; it ends with the session."""

    def __init__(self, database: PostgresqlDatabase) -> None:
        self._database = database
        self._connection: Connection | None = None
        self._mutex = threading.Lock()

    def acquire(self) -> bool:
        with self._mutex:
            if self._alive():
                return True
            with self._database.failures(Operation.OPEN):
                connection = _session(self._database.engine)
                try:
                    taken = connection.execute(
                        text("SELECT pg_try_advisory_lock(:space, hashtext(current_schema()))"),
                        {"space": _LEAD},
                    ).scalar_one()
                except SQLAlchemyError:
                    connection.close()
                    raise
            if not taken:
                connection.close()
                return False
            self._connection = connection
            return True

    def held(self) -> bool:
        with self._mutex:
            return self._alive()

    def release(self) -> None:
        with self._mutex:
            if self._connection is not None:
                # The database sees a closed connection a moment later; this it sees now.
                with suppress(SQLAlchemyError):
                    self._connection.exec_driver_sql("SELECT pg_advisory_unlock_all()")
            self._drop()

    def _alive(self) -> bool:
        if self._connection is None:
            return False
        try:
            self._connection.exec_driver_sql("SELECT 1")
        except SQLAlchemyError:
            self._drop()
            return False
        return True

    def _drop(self) -> None:
        if self._connection is not None:
            with suppress(SQLAlchemyError):
                self._connection.close()
            self._connection = None


def _session(engine: Engine) -> Connection:
    """A connection outside the pool and in no transaction; both ends soon notice its loss."""
    connection = engine.connect().execution_options(isolation_level="AUTOCOMMIT")
    connection.detach()
    for name, value in _KEEPALIVES.items():
        connection.exec_driver_sql(f"SET tcp_keepalives_{name} = {value}")
    connection.exec_driver_sql("SET idle_session_timeout = 0")
    return connection


def _url(store: Store) -> URL:
    try:
        # SQLAlchemy does not know "postgres://", and takes plain strings only, not a Store.
        url = make_url(str(store).replace("postgres://", "postgresql://", 1))
    except (ArgumentError, ValueError) as error:
        raise StoreError(
            "--edit-store is no usable URL: write postgresql://USER@HOST:PORT/DATABASE."
        ) from error
    return url.set(drivername="postgresql+psycopg")
