"""The tables of a store: made once, brought up to date, left alone when they are newer."""

import sqlite3
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.ledger.programs import OPEN, running
from vllm_edit.domain.errors import StoreError, StoreLocked
from vllm_edit.ledger import Entry, Ledger, Log, database_of, sqlite
from vllm_edit.ledger.schema import VERSION
from vllm_edit.store import Store


def test_a_store_of_a_newer_version_is_refused_and_left_alone(store: Store) -> None:
    with Log(database_of(store)) as log, log.database.engine.connect() as connection:
        log.database.set_version(connection, VERSION + 1)
        connection.commit()
    for _ in range(2):
        with pytest.raises(StoreError, match=f"newer version of vllm-edit .schema {VERSION + 1}"):
            Ledger.open(store)


def test_processes_that_open_a_new_store_at_once_make_one(store: Store) -> None:
    with ExitStack() as stack:
        processes = [stack.enter_context(running(OPEN, store)) for _ in range(4)]
        for process in processes:
            assert process.stdin is not None
            print(file=process.stdin, flush=True)
        assert [process.wait(60) for process in processes] == [0] * 4
    with Ledger.open(store) as ledger:
        assert ledger.revision == 0


def test_a_migration_is_done_whole_or_not_at_all(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Log(database_of(store)) as log:
        log.append([Entry("edit", "a", "proposed", {"request": {}})])
    later = {VERSION + 1: ("CREATE TABLE more (x integer)", "CREATE NONSENSE")}
    monkeypatch.setattr("vllm_edit.ledger.database.VERSION", VERSION + 1)
    database = database_of(store)
    monkeypatch.setattr(database, "migrations", {**database.migrations, **later})
    with pytest.raises(StoreError, match="NONSENSE"):
        Log(database)
    monkeypatch.undo()
    with Log(database_of(store)) as log, log.database.engine.connect() as connection:
        assert log.latest() == 1
        assert log.database.version(connection) == VERSION
        connection.exec_driver_sql("CREATE TABLE more (x integer)")


def test_a_server_of_an_earlier_version_keeps_its_file_to_itself(
    folder: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite, "BUSY_SECONDS", 0.1)
    path = Path(folder) / "ledger.sqlite3"
    path.parent.mkdir(parents=True)
    old = sqlite3.connect(path)
    old.execute("PRAGMA locking_mode=EXCLUSIVE")
    old.execute("PRAGMA journal_mode=WAL")
    old.execute("CREATE TABLE events (x)")
    with pytest.raises(StoreLocked, match="If another server uses it"):
        Ledger.open(folder)
    old.close()


def test_tables_of_somebody_else_are_left_alone(database: Store) -> None:
    ours = database_of(database)
    with ours.engine.begin() as connection:
        connection.exec_driver_sql("CREATE TABLE events (theirs integer)")
    with pytest.raises(StoreError, match="already exists"):
        Log(ours)
    with ours.engine.connect() as connection:
        assert connection.exec_driver_sql("SELECT theirs FROM events").all() == []
    ours.engine.dispose()
