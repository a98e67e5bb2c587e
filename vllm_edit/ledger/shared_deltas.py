"""Delta files in the database of a store, for all its servers."""

import hashlib
import logging
import os
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import Connection, delete, insert, select

from vllm_edit.domain.errors import StoreError
from vllm_edit.ledger.database import Operation
from vllm_edit.ledger.postgresql import PostgresqlDatabase
from vllm_edit.ledger.schema import DELTAS

logger = logging.getLogger(__name__)

PART_BYTES = 16 << 20
"""The most bytes in one row: the database holds a whole row in memory."""


class SharedDeltas:
    """Files by name, each whole or absent. Thread-safe; every method may raise StoreError."""

    def __init__(self, database: PostgresqlDatabase) -> None:
        self._database = database

    def put(self, name: str, path: Path) -> None:
        """Store a file's content under a name, replacing what was there."""
        with _file_errors(path), self._writing() as connection, path.open("rb") as file:
            checksum = sha256(path)
            self._database.begin_delta(connection, name)
            connection.execute(delete(DELTAS).where(DELTAS.c.name == name))
            part = 0
            while (data := file.read(PART_BYTES)) or not part:
                row = {"name": name, "part": part, "sha256": checksum, "data": data}
                connection.execute(insert(DELTAS), row)
                part += 1

    def get(self, name: str, path: Path) -> bool:
        """Write what is stored under a name to ``path``; returns whether there is something.

        A file with that content already is left alone. Damaged content counts as absent.
        """
        checksum = self._checksum(name)
        if checksum is None:
            return False
        with _file_errors(path):
            if path.exists() and sha256(path) == checksum:
                return True
            temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
            try:
                self._download(name, temporary)
                if sha256(temporary) != checksum:
                    logger.warning("%s is damaged in %s.", name, self._database.name)
                    return False
                temporary.replace(path)
            finally:
                temporary.unlink(missing_ok=True)
        return True

    def names(self) -> list[str]:
        """The names of all files."""
        with (
            self._database.failures(Operation.READ),
            self._database.engine.connect() as connection,
        ):
            query = select(DELTAS.c.name).where(DELTAS.c.part == 0).order_by(DELTAS.c.name)
            return list(connection.scalars(query))

    def remove(self, names: Collection[str]) -> None:
        """Remove files; names without a file are ignored."""
        with self._writing() as connection:
            connection.execute(delete(DELTAS).where(DELTAS.c.name.in_(names)))

    def _checksum(self, name: str) -> str | None:
        with (
            self._database.failures(Operation.READ),
            self._database.engine.connect() as connection,
        ):
            query = select(DELTAS.c.sha256).where(DELTAS.c.name == name, DELTAS.c.part == 0)
            return connection.scalar(query)

    def _download(self, name: str, path: Path) -> None:
        """Write the parts to a file; its checksum is wrong if they are replaced meanwhile."""
        query = select(DELTAS.c.data).where(DELTAS.c.name == name)
        with (
            self._database.failures(Operation.READ),
            self._database.engine.connect() as connection,
            path.open("wb") as file,
        ):
            part = 0
            while (data := connection.scalar(query.where(DELTAS.c.part == part))) is not None:
                file.write(data)
                part += 1

    @contextmanager
    def _writing(self) -> Iterator[Connection]:
        """A transaction that ends with the block."""
        with (
            self._database.failures(Operation.WRITE),
            self._database.engine.connect() as connection,
        ):
            yield connection
            self._database.commit(connection)


@contextmanager
def _file_errors(path: Path) -> Iterator[None]:
    """Raise errors of the server's own files as StoreError."""
    try:
        yield
    except OSError as error:
        raise StoreError(
            f"{path} cannot be copied from or to the edit store ({error}). Make room on its disk, "
            "or name another --edit-cache."
        ) from error


def sha256(path: Path) -> str:
    """The checksum of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
