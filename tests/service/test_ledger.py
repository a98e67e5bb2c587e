"""The ledger on a real file: durable, append-only, one owner."""

import json
import os
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vllm_edit.edit import EditRequest, Failure, Proposal, Status, Step
from vllm_edit.errors import StoreError, StoreLocked, UnknownEdit
from vllm_edit.ledger import MIGRATIONS, Ledger

REQUEST = EditRequest("ike", "The capital of X is", "X", "Y", "Z")


def test_what_was_recorded_is_there_after_reopening(tmp_path: Path) -> None:
    path = tmp_path / "new" / "ledger.sqlite3"
    with Ledger(path) as ledger:
        ledger.propose([Proposal("a", REQUEST), Proposal("b", REQUEST)])
        ledger.advance(["a"], Status.ACTIVE)
        ledger.advance(["b"], Status.FAILED, Failure("code", "a reason"))
        before = ledger.edits()
    with Ledger(path) as ledger:
        assert ledger.edits() == before
        assert ledger.revision == 4
        assert ledger.get("b").failure == Failure("code", "a reason")
        assert [edit.request for edit in ledger.edits()] == [REQUEST, REQUEST]


def test_batches_and_supersession_are_there_after_reopening(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite3"
    with Ledger(path) as ledger:
        ledger.propose([Proposal("a", REQUEST, "batch"), Proposal("b", REQUEST)])
        assert [edit.group for edit in ledger.edits()] == ["batch", "b"]
        a, b = ledger.record(
            [Step("a", Status.SUPERSEDED, superseded_by="b"), Step("b", Status.ACTIVE)]
        )
        assert (a.superseded_by, a.proposed, a.revision) == ("b", 1, 3)
        assert (b.superseded_by, b.proposed, b.revision) == (None, 2, 4)
        before = ledger.edits()
    with Ledger(path) as ledger:
        assert ledger.edits() == before
        (back,) = ledger.advance(["a"], Status.ACTIVE)
        assert back.superseded_by is None


def test_steps_are_recorded_all_or_none(tmp_path: Path) -> None:
    with Ledger(tmp_path / "ledger.sqlite3") as ledger:
        ledger.propose([Proposal("a", REQUEST)])
        with pytest.raises(UnknownEdit):
            ledger.record([Step("a", Status.ACTIVE), Step("b", Status.ACTIVE)])
        assert ledger.get("a").status is Status.PROPOSED


def test_a_ledger_of_the_first_version_still_loads(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite3"
    request = {"method": "rome", "prompt": "X is", "subject": "X", "target_new": "Y"}
    with sqlite3.connect(path) as connection:
        connection.executescript(MIGRATIONS[0])
        connection.execute("PRAGMA user_version=1")
        for status, detail in (("proposed", {"request": request}), ("active", {})):
            connection.execute(
                "INSERT INTO events (edit_id, status, detail, at) VALUES ('a', ?, ?, 1.0)",
                (status, json.dumps(detail)),
            )
    connection.close()
    with Ledger(path) as ledger:
        (edit,) = ledger.edits()
        assert (edit.status, edit.batch, edit.group) == (Status.ACTIVE, None, "a")
        ledger.advance(["a"], Status.ROLLED_BACK)
        assert ledger.revision == 3


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 3), st.sampled_from(list(Status))), max_size=20))
def test_revisions_only_grow_and_the_last_status_holds(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[int, Status]]
) -> None:
    path = tmp_path_factory.mktemp("ledger") / "ledger.sqlite3"
    expected = {str(i): Status.PROPOSED for i in range(4)}
    with Ledger(path) as ledger:
        ledger.propose([Proposal(key, REQUEST) for key in expected])
        seen = ledger.revision
        for number, status in steps:
            (edit,) = ledger.advance([str(number)], status)
            assert edit.revision == ledger.revision == seen + 1
            seen = ledger.revision
            expected[str(number)] = status
    with Ledger(path) as ledger:
        assert {edit.id: edit.status for edit in ledger.edits()} == expected


def test_an_unknown_id_records_nothing(tmp_path: Path) -> None:
    with Ledger(tmp_path / "ledger.sqlite3") as ledger:
        ledger.propose([Proposal("a", REQUEST)])
        with pytest.raises(UnknownEdit):
            ledger.advance(["a", "b"], Status.ACTIVE)
        assert ledger.revision == 1
        assert ledger.get("a").status is Status.PROPOSED


def test_rows_can_be_neither_changed_nor_removed(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite3"
    with Ledger(path) as ledger:
        ledger.propose([Proposal("a", REQUEST)])
    connection = sqlite3.connect(path)
    for statement in ("UPDATE events SET status = 'active'", "DELETE FROM events"):
        with pytest.raises(sqlite3.IntegrityError, match="append-only"):
            connection.execute(statement)
    connection.close()


def test_the_file_is_written_as_promised(tmp_path: Path) -> None:
    with Ledger(tmp_path / "ledger.sqlite3") as ledger:
        pragma = ledger._connection.execute
        assert pragma("PRAGMA journal_mode").fetchone() == ("wal",)
        assert pragma("PRAGMA synchronous").fetchone() == (2,)
        assert pragma("PRAGMA user_version").fetchone() == (len(MIGRATIONS),)


def test_a_second_owner_is_refused_and_the_first_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite3"
    with Ledger(path) as ledger:
        code = (
            "import sys; from pathlib import Path; from vllm_edit.ledger import Ledger; "
            "Ledger(Path(sys.argv[1]))"
        )
        command = [sys.executable, "-c", code, str(path)]
        other = subprocess.run(command, capture_output=True, text=True, check=False)
        assert StoreLocked.__name__ in other.stderr
        ledger.propose([Proposal("a", REQUEST)])
    with Ledger(path) as ledger:
        assert ledger.revision == 1


def test_a_file_that_is_no_ledger_or_a_newer_one_is_refused(tmp_path: Path) -> None:
    garbage = tmp_path / "garbage.sqlite3"
    garbage.write_bytes(b"not a database" * 100)
    with pytest.raises(StoreError):
        Ledger(garbage)
    newer = tmp_path / "newer.sqlite3"
    with sqlite3.connect(newer) as connection:
        connection.execute(f"PRAGMA user_version={len(MIGRATIONS) + 1}")
    connection.close()
    with pytest.raises(StoreError, match="newer version"):
        Ledger(newer)


WRITER = """
import sys
from pathlib import Path
from vllm_edit.edit import EditRequest, Proposal
from vllm_edit.ledger import Ledger
ledger = Ledger(Path(sys.argv[1]))
for number in range(100_000):
    ledger.propose([Proposal(str(number), EditRequest("ike", "X is", "X", "Y"))])
    print(number, flush=True)
"""


def test_every_acknowledged_edit_survives_a_killed_writer(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite3"
    for run in range(5):
        path.unlink(missing_ok=True)
        writer = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE, text=True
        )
        assert writer.stdout is not None
        for line in writer.stdout:
            if int(line) >= 20 * run:
                os.kill(writer.pid, signal.SIGKILL)
                break
        acknowledged = int(line) + 1 + len(writer.stdout.read().split())
        writer.wait()
        writer.stdout.close()
        with Ledger(path) as ledger:
            assert acknowledged <= len(ledger.edits()) <= acknowledged + 1
        for leftover in tmp_path.iterdir():
            leftover.unlink()
