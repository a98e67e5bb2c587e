"""The log: durable, append-only, all or none, and one order for all who read."""

from contextlib import ExitStack
from itertools import chain
from threading import Thread

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from tests.ledger.postgres import Postgres
from tests.ledger.programs import WRITE, lines, running
from vllm_edit.domain.errors import StoreError
from vllm_edit.ledger import Entry, Ledger, Log, database_of
from vllm_edit.ledger.log import READ_AT_ONCE
from vllm_edit.ledger.schema import VERSION
from vllm_edit.store import Store

ENTRY = Entry("edit", "a", "proposed", {})
INSERT = "INSERT INTO events (revision, kind, subject, status, detail, at) VALUES"


def test_an_empty_log_has_nothing(log: Log) -> None:
    assert log.latest() == 0
    assert list(log.read()) == []
    assert log.append([]) == []


def test_what_was_appended_is_there_after_reopening(store: Store) -> None:
    detail = {"text": "Zürich 東京 '\"\\ \0", "numbers": [1, 2.5, None], "nested": {"a": (True,)}}
    with Log(database_of(store)) as log:
        first = log.append([Entry("edit", "a", "proposed", detail), Entry("split", "b", "set", {})])
        (second,) = log.append([ENTRY])
    assert [event.revision for event in [*first, second]] == [1, 2, 3]
    assert (first[1].kind, first[1].subject, first[1].status) == ("split", "b", "set")
    assert first[0].detail == detail | {"nested": {"a": [True]}}
    with Log(database_of(store)) as log:
        assert list(log.read()) == [*first, second]
        assert list(log.read(1)) == [first[1], second]
        assert list(log.read(3)) == []
        assert log.latest() == 3


def test_a_long_log_is_read_in_order(log: Log) -> None:
    count = 2 * READ_AT_ONCE + 1
    log.append([ENTRY] * count)
    assert [event.revision for event in log.read()] == [*range(1, count + 1)]
    assert len(list(log.read(READ_AT_ONCE))) == READ_AT_ONCE + 1


def test_entries_are_recorded_all_or_none(log: Log) -> None:
    bad = Entry("edit", None, "proposed", {})  # type: ignore[arg-type]
    with pytest.raises(StoreError, match="nothing was recorded"):
        log.append([ENTRY, ENTRY, bad])
    assert log.latest() == 0
    assert [event.revision for event in log.append([ENTRY])] == [1]


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE events SET status = 'active'",
        "DELETE FROM events",
        f"{INSERT} (1, 'edit', 'a', 'b', '{{}}', 0)",
        f"{INSERT} (3, 'edit', 'a', 'b', '{{}}', 0)",
    ],
)
def test_the_database_lets_nobody_change_the_past_or_leave_a_gap(log: Log, statement: str) -> None:
    _require_refusal(log, statement)


def test_nor_replace_it(folder: Store) -> None:
    with Log(database_of(folder)) as log:
        _require_refusal(
            log, INSERT.replace("INSERT", "REPLACE") + " (1, 'edit', 'a', 'b', '{}', 0)"
        )


def test_nor_empty_it(database: Store) -> None:
    with Log(database_of(database)) as log:
        _require_refusal(log, "TRUNCATE events")


def _require_refusal(log: Log, statement: str) -> None:
    before = log.append([ENTRY])
    with (
        pytest.raises(DBAPIError, match="append-only"),
        log.database.engine.begin() as connection,
    ):
        connection.execute(text(statement))
    assert list(log.read()) == before


def test_many_writers_leave_no_gap_and_a_reader_misses_nothing(store: Store) -> None:
    """A reader sees every revision once and in order, however the writers' commits fall."""
    writers, count = 4, 100
    with Log(database_of(store)) as log, ExitStack() as stack:
        processes = [
            stack.enter_context(running(WRITE, store, f"w{n}", str(count))) for n in range(writers)
        ]
        seen = []
        while len(seen) < 2 * writers * count:
            seen += log.read(len(seen))
            if all(process.poll() is not None for process in processes):
                seen += log.read(len(seen))
                break
        printed = [[int(line) for line in lines(process)] for process in processes]
    assert [event.revision for event in seen] == [*range(1, 2 * writers * count + 1)]
    assert sorted(chain.from_iterable(printed)) == [*range(1, 2 * writers * count + 1)]
    for name, revisions in enumerate(printed):
        mine = [e for e in seen if e.subject.startswith(f"w{name}-")]
        assert [event.revision for event in mine] == revisions
        assert [e.subject for e in mine[::2]] == [f"w{name}-{n}" for n in range(count)]
        assert all(b == a + 1 for a, b in zip(revisions[::2], revisions[1::2], strict=True))


def test_every_append_that_returned_survives_a_killed_writer(store: Store) -> None:
    recorded = 0
    for number in range(4):
        with running(WRITE, store, "w", "100000") as process:
            output = lines(process)
            for line in output:
                if int(line) >= recorded + 15 * number + 1:
                    process.kill()
                    break
            last = max([int(line), *map(int, output)])
        with Log(database_of(store)) as log:
            recorded = log.latest()
            # An append that was not acknowledged may be there, but as a whole.
            assert last <= recorded <= last + 3
            assert recorded % 2 == 0
            assert len(list(log.read())) == recorded


def test_every_append_that_returned_survives_a_killed_database(
    postgres: Postgres, database: Store
) -> None:
    with Log(database_of(database)) as log:
        before = log.append([ENTRY])
        postgres.kill()
        postgres.start()
        assert list(log.read()) == before


def test_files_are_written_as_promised(folder: Store) -> None:
    with Log(database_of(folder)) as log, log.database.engine.connect() as connection:
        for pragma, value in (
            ("journal_mode", "wal"),
            ("synchronous", 2),
            ("user_version", VERSION),
        ):
            assert connection.exec_driver_sql(f"PRAGMA {pragma}").scalar_one() == value


def test_a_commit_is_durable_where_the_database_would_not_wait(postgres: Postgres) -> None:
    store = postgres.new_store("-c synchronous_commit=off")
    with Log(database_of(store)) as log, log.database.engine.connect() as connection:
        for expected in ("off", "on"):
            setting = connection.exec_driver_sql("SHOW synchronous_commit")
            assert setting.scalar_one() == expected
            log.database.begin(connection)


def test_an_append_sees_what_was_committed_while_it_waited(postgres: Postgres) -> None:
    """Though every transaction of this database sees what there was at its beginning."""
    store = postgres.new_store("-c default_transaction_isolation=serializable")
    with Log(database_of(store)) as log, Log(database_of(store)) as other, ExitStack() as stack:
        first = stack.enter_context(other.database.engine.connect())
        other.database.begin(first)
        waiting = Thread(target=log.append, args=([ENTRY],))
        waiting.start()
        with other.database.engine.connect() as watch:
            count = text(
                "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
            )
            while not watch.scalar(count):
                assert waiting.is_alive()
        first.execute(text(f"{INSERT} (1, 'edit', 'a', 'b', '{{}}', 0)"))
        first.commit()
        waiting.join()
        assert log.latest() == 2


def test_stores_of_one_database_keep_to_themselves(postgres: Postgres) -> None:
    one, other = postgres.new_store(), postgres.new_store()
    with Ledger.open(one) as first, Ledger.open(other) as second:
        first.log.append([ENTRY])
        first.leadership.require()
        second.leadership.require()
        assert second.log.latest() == 0
