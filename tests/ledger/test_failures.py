"""What a store says when it cannot go on, and that it goes on when it can."""

import resource
import shutil
import sqlite3
import subprocess
import sys
import traceback
from pathlib import Path

import pytest
from sqlalchemy import Connection, event
from sqlalchemy.exc import OperationalError

from tests.ledger.postgres import Postgres
from tests.ledger.programs import WRITE, lines, running
from vllm_edit.domain.edit import EditRequest, Proposal, Status, Step
from vllm_edit.domain.errors import StoreError
from vllm_edit.ledger import LEDGER_FILE, Entry, Ledger, Log, database_of
from vllm_edit.store import Store

ENTRY = Entry("edit", "a", "proposed", {"request": {"prompt": "long " * 200}})
PROPOSAL = Proposal("a", EditRequest("ike", "X is", "X", "Y"))


def killed(store: Store, revision: int) -> None:
    """A writer that was killed when it had appended so much; its WAL stays behind."""
    with running(WRITE, store, "w", "100000") as process:
        for line in lines(process):
            if int(line) >= revision:
                break
        process.kill()


FILL = """
import resource, sys
from pathlib import Path
from vllm_edit.domain.errors import StoreError
from vllm_edit.ledger import Entry, Log, database_of
from vllm_edit.store import Store
entry = Entry("edit", "a", "proposed", {"text": "long " * 200})
with Log(database_of(Store(sys.argv[1]))) as log:
    log.append([entry])
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, resource.RLIM_INFINITY))
    recorded = 1
    try:
        while True:
            recorded = log.append([entry] * 2)[-1].revision
    except StoreError as error:
        print(error.message)
    assert log.latest() == recorded == len(list(log.read())), recorded
    assert recorded > 10
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    print(log.append([entry])[0].revision - recorded)
"""


def test_a_full_disk_is_told_and_got_over(folder: Store) -> None:
    done = subprocess.run(
        [sys.executable, "-c", FILL, folder], capture_output=True, text=True, check=True
    )
    message, went_on = done.stdout.splitlines()
    assert "cannot be written" in message
    assert "nothing was recorded. Make room on its disk" in message
    assert went_on == "1"
    with Log(database_of(folder)) as log:
        assert [event.revision for event in log.read()] == [*range(1, log.latest() + 1)]


def test_a_new_store_on_a_full_disk_is_refused(folder: Store) -> None:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))
    try:
        with pytest.raises(StoreError, match="cannot be opened"):
            Log(database_of(folder))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    with Log(database_of(folder)) as log:
        log.append([ENTRY])


@pytest.mark.parametrize("lost", [1, 30, 4096, 10_000])
def test_a_torn_wal_leaves_what_was_whole_before_it(folder: Store, lost: int) -> None:
    killed(folder, 40)
    wal = Path(folder) / f"{LEDGER_FILE}-wal"
    with wal.open("r+b") as file:
        file.truncate(wal.stat().st_size - lost)
    with Log(database_of(folder)) as log:
        recorded = log.latest()
        assert recorded >= 20
        assert recorded % 2 == 0
        assert [event.revision for event in log.read()] == [*range(1, recorded + 1)]
        (event,) = log.append([ENTRY])
        assert event.revision == recorded + 1


def test_a_wal_with_a_damaged_end_too(folder: Store) -> None:
    killed(folder, 40)
    wal = Path(folder) / f"{LEDGER_FILE}-wal"
    with wal.open("r+b") as file:
        file.seek(-2000, 2)
        file.write(b"\xff" * 1000)
    with Log(database_of(folder)) as log:
        assert len(list(log.read())) == log.latest() >= 20


def test_a_damaged_file_is_told(folder: Store) -> None:
    with Log(database_of(folder)) as log:
        log.append([ENTRY] * 100)
    path = Path(folder) / LEDGER_FILE
    whole = path.read_bytes()
    assert len(whole) > 20 * 4096
    path.write_bytes(whole[: 10 * 4096] + b"\xa5" * 4096 * 5 + whole[15 * 4096 :])
    with pytest.raises(StoreError, match=r"is not a readable edit store .*Restore it"):
        Ledger.open(folder)
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(StoreError, match=r"is not a readable edit store .*Restore it"):
        Ledger.open(folder)


def test_a_damaged_event_is_named(folder: Store) -> None:
    with Ledger.open(folder) as ledger:
        ledger.propose([PROPOSAL])
    path = Path(folder) / LEDGER_FILE
    whole = path.read_bytes()
    assert whole.count(b'{"request"') == 1
    path.write_bytes(whole.replace(b'{"request"', b'{"requ\xffst'))
    with pytest.raises(StoreError, match=r"Revision 1 .*Restore|cannot be read"):
        Ledger.open(folder)


def test_a_file_that_is_no_ledger_is_refused_and_left_alone(folder: Store) -> None:
    path = Path(folder) / LEDGER_FILE
    path.parent.mkdir(parents=True)
    path.write_bytes(b"not a database" * 100)
    with pytest.raises(StoreError, match="not a readable edit store"):
        Ledger.open(folder)
    assert path.read_bytes() == b"not a database" * 100


def test_a_folder_that_cannot_be_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match=r"cannot be made .*Name another"):
        Ledger.open(Store(tmp_path / "file" / "store"))
    (tmp_path / "store" / LEDGER_FILE).mkdir(parents=True)
    with pytest.raises(StoreError, match="cannot be opened"):
        Ledger.open(Store(tmp_path / "store"))


def test_a_file_that_another_writes_is_waited_for_and_then_told(
    folder: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vllm_edit.ledger.sqlite.BUSY_SECONDS", 0.1)
    with Ledger.open(folder) as ledger:
        other = sqlite3.connect(Path(folder) / LEDGER_FILE, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreError, match=r"locked.*nothing was recorded"):
            ledger.propose([PROPOSAL])
        other.close()
        ledger.propose([PROPOSAL])


def test_what_could_not_be_committed_is_never_read(store: Store) -> None:
    def refuse(_: Connection) -> None:
        raise OperationalError("COMMIT", None, sqlite3.OperationalError("injected"))

    with Ledger.open(store) as ledger:
        ledger.propose([PROPOSAL])
        event.listen(ledger.log.database.engine, "commit", refuse)
        with pytest.raises(StoreError, match="injected"):
            ledger.record([Step("a", Status.ACTIVE)])
        event.remove(ledger.log.database.engine, "commit", refuse)
        assert ledger.log.latest() == 1
        assert ledger.catch_up() == []
        ledger.record([Step("a", Status.FAILED)])
    with Ledger.open(store) as ledger:
        assert (ledger.revision, ledger.get("a").status) == (2, Status.FAILED)


def test_a_store_whose_files_are_gone_does_not_pretend(folder: Store) -> None:
    with Ledger.open(folder) as ledger:
        shutil.rmtree(folder)
        ledger.log.database.engine.dispose()
        with pytest.raises(StoreError, match="nothing was recorded"):
            ledger.propose([PROPOSAL])


def test_a_ledger_goes_on_when_its_database_is_back(postgres: Postgres, database: Store) -> None:
    with Ledger.open(database) as ledger:
        assert ledger.try_to_lead("")
        ledger.propose([PROPOSAL])
        postgres.stop()
        try:
            for call in (
                lambda: ledger.propose([PROPOSAL]),
                ledger.catch_up,
                ledger.log.latest,
                lambda: Ledger.open(database),
            ):
                with pytest.raises(StoreError, match="See that the database runs") as raised:
                    call()
                assert_no_password(raised.value)
            assert not ledger.leadership.held()
        finally:
            postgres.start()
        assert ledger.catch_up() == []
        (edit,) = ledger.propose([Proposal("b", PROPOSAL.request)])
        assert edit.revision == 2
        assert ledger.leadership.held()
        postgres.stop()
        postgres.start()
        (edit,) = ledger.propose([Proposal("c", PROPOSAL.request)])
        assert edit.revision == 3


def test_a_connection_lost_at_the_commit_leaves_the_outcome_open(database: Store) -> None:
    with Log(database_of(database)) as log, Log(database_of(database)) as other:

        def lose(_: Connection) -> None:
            with other.database.engine.connect() as connection:
                connection.exec_driver_sql(
                    "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity "
                    "WHERE datname = current_database() AND pid <> pg_backend_pid()"
                )

        event.listen(log.database.engine, "commit", lose)
        with pytest.raises(StoreError, match="whether it was recorded is not known"):
            log.append([ENTRY])
        event.remove(log.database.engine, "commit", lose)
        assert log.append([ENTRY])[0].revision == log.latest()


def test_no_message_shows_a_password(postgres: Postgres, tmp_path: Path) -> None:
    stores = [
        f"postgresql://postgres:secret-word@/nowhere?host={tmp_path}",
        f"postgresql+psycopg://postgres:secret-word@/no_such_one?host={postgres.folder}",
        "postgresql://postgres@127.0.0.1:1/x?password=secret-word",
        "postgresql://postgres:secret-word@127.0.0.1:1/x?wrong_option=1",
        "postgresql://postgres:secret-word@127.0.0.1:port/x",
        "postgresql://postgres:secret-word@[::1/x",
        "mysql://user:secret-word@host/x",
    ]
    for store in stores:
        with pytest.raises(StoreError) as raised:
            Ledger.open(store)
        assert_no_password(raised.value)


def test_a_missing_driver_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(StoreError, match=r"pip install 'vllm-edit\[postgres\]'"):
        database_of(Store("postgresql://host/x"))


def assert_no_password(error: StoreError) -> None:
    """Neither in the message nor in what a log would show."""
    assert "secret-word" not in "".join(traceback.format_exception(error))
