"""The same log in a file and in a real PostgreSQL."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.ledger.postgres import MISSING, Postgres
from vllm_edit.ledger import Ledger, Log, database_of
from vllm_edit.store import Store


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """A PostgreSQL server of our own, shared by the session."""
    if MISSING:
        pytest.skip(MISSING)
    with Postgres() as server:
        yield server


@pytest.fixture
def folder(tmp_path: Path) -> Store:
    """An empty store in SQLite."""
    return Store(tmp_path / "new" / "store")


@pytest.fixture
def database(postgres: Postgres) -> Store:
    """An empty store in PostgreSQL."""
    return postgres.new_store()


@pytest.fixture(params=["folder", "database"])
def store(request: pytest.FixtureRequest) -> Store:
    """An empty store, of each kind."""
    store: Store = request.getfixturevalue(request.param)
    return store


@pytest.fixture
def log(store: Store) -> Iterator[Log]:
    with Log(database_of(store)) as log:
        yield log


@pytest.fixture
def ledger(store: Store) -> Iterator[Ledger]:
    with Ledger.open(store) as ledger:
        yield ledger
