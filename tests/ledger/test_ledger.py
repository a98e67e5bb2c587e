"""Edits as the ledger tells of them, after reopening and beside others that append."""

import json
import sqlite3
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vllm_edit.domain.edit import EditRequest, Failure, Proposal, Status, Step
from vllm_edit.domain.errors import StoreError, UnknownEdit
from vllm_edit.ledger import Entry, Ledger
from vllm_edit.store import Store

REQUEST = EditRequest("ike", "The capital of X is", "X", "Y", "Z")


def test_what_was_recorded_is_there_after_reopening(store: Store) -> None:
    with Ledger.open(store) as ledger:
        ledger.propose([Proposal("a", REQUEST), Proposal("b", REQUEST)])
        ledger.record([Step("a", Status.ACTIVE)])
        ledger.record([Step("b", Status.FAILED, Failure("code", "a reason"))])
        before = ledger.edits()
    with Ledger.open(store) as ledger:
        assert ledger.edits() == before
        assert ledger.revision == 4
        assert ledger.get("b").failure == Failure("code", "a reason")
        assert [edit.request for edit in ledger.edits()] == [REQUEST, REQUEST]


def test_batches_and_supersession_are_there_after_reopening(store: Store) -> None:
    with Ledger.open(store) as ledger:
        ledger.propose([Proposal("a", REQUEST, "batch"), Proposal("b", REQUEST)])
        assert [edit.group for edit in ledger.edits()] == ["batch", "b"]
        a, b = ledger.record(
            [Step("a", Status.SUPERSEDED, superseded_by="b"), Step("b", Status.ACTIVE)]
        )
        assert (a.superseded_by, a.proposed, a.revision) == ("b", 1, 3)
        assert (b.superseded_by, b.proposed, b.revision) == (None, 2, 4)
        before = ledger.edits()
    with Ledger.open(store) as ledger:
        assert ledger.edits() == before
        (back,) = ledger.record([Step("a", Status.ACTIVE)])
        assert back.superseded_by is None


def test_a_path_is_the_file_of_a_folder(folder: Store) -> None:
    with Ledger.open(folder) as ledger:
        ledger.propose([Proposal("a", REQUEST)])
    with Ledger(Path(folder) / "ledger.sqlite3") as ledger:
        assert ledger.get("a").request == REQUEST


def test_steps_are_recorded_all_or_none(ledger: Ledger) -> None:
    ledger.propose([Proposal("a", REQUEST)])
    with pytest.raises(UnknownEdit):
        ledger.record([Step("a", Status.ACTIVE), Step("b", Status.ACTIVE)])
    with pytest.raises(UnknownEdit):
        ledger.record([Step("a", Status.ACTIVE), Step("b", Status.ACTIVE)])
    assert ledger.revision == 1
    assert ledger.get("a").status is Status.PROPOSED


def test_what_others_append_is_seen_once_and_in_order(store: Store) -> None:
    with Ledger.open(store) as one, Ledger.open(store) as other:
        one.propose([Proposal("a", REQUEST)])
        assert other.edits() == []
        assert [event.revision for event in other.catch_up()] == [1]
        assert other.catch_up() == []
        one.record([Step("a", Status.COMPUTING)])
        # Seen on the way of an append of one's own, which follows it.
        (edit,) = other.propose([Proposal("b", REQUEST)])
        assert (edit.revision, other.get("a").status) == (3, Status.COMPUTING)
        one.record([Step("a", Status.ACTIVE)])
        assert [event.revision for event in one.catch_up()] == [3]
        assert [event.revision for event in other.catch_up()] == [2, 4]
        assert one.edits() == other.edits()
        assert one.revision == other.revision == 4


def test_events_of_kinds_it_does_not_know_only_count(ledger: Ledger) -> None:
    ledger.log.append([Entry("comet", "a", "seen", {})])
    assert [event.kind for event in ledger.catch_up()] == ["comet"]
    (edit,) = ledger.propose([Proposal("a", REQUEST)])
    assert edit.revision == ledger.revision == 2


@pytest.mark.parametrize(
    "entry",
    [
        Entry("edit", "a", "active", {}),
        Entry("edit", "a", "proposed", {"request": {"method": "ike"}}),
        Entry("edit", "a", "molten", {"request": {}}),
        Entry("edit", "a", "proposed", {"request": None}),
    ],
)
def test_events_without_sense_are_named(folder: Store, entry: Entry) -> None:
    with Ledger.open(folder) as ledger:
        ledger.log.append([entry])
        with pytest.raises(StoreError, match=r"Revision 1 of the edit store .* backup"):
            ledger.catch_up()
    with pytest.raises(StoreError, match="Revision 1"):
        Ledger.open(folder)


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
            (edit,) = ledger.record([Step(str(number), status)])
            assert edit.revision == ledger.revision == seen + 1
            seen = ledger.revision
            expected[str(number)] = status
    with Ledger(path) as ledger:
        assert {edit.id: edit.status for edit in ledger.edits()} == expected


@pytest.mark.parametrize("version", [1, 2])
def test_a_ledger_of_an_earlier_version_goes_on(folder: Store, version: int) -> None:
    request = {"method": "rome", "prompt": "X is", "subject": "X", "target_new": "Y"}
    batch = {"batch": "b"} if version > 1 else {}
    older_store(Path(folder), version, [("proposed", {"request": request} | batch), ("active", {})])
    with Ledger.open(folder) as ledger:
        (edit,) = ledger.edits()
        assert (edit.status, edit.batch) == (Status.ACTIVE, batch.get("batch"))
        assert vars(edit.request) == vars(EditRequest(**request))
        ledger.record([Step("a", Status.ROLLED_BACK)])
        assert ledger.revision == 3
        before = ledger.edits()
    with Ledger.open(folder) as ledger:
        assert ledger.edits() == before


def older_store(folder: Path, version: int, steps: list[tuple[str, dict[str, object]]]) -> None:
    """A store as versions with schema 1 or 2 have written it, with the steps of edit "a"."""
    folder.mkdir(parents=True)
    with sqlite3.connect(folder / "ledger.sqlite3") as connection:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.executescript(
            """
            CREATE TABLE events (
                revision INTEGER PRIMARY KEY AUTOINCREMENT,
                edit_id  TEXT NOT NULL,
                status   TEXT NOT NULL,
                detail   TEXT NOT NULL,
                at       REAL NOT NULL
            ) STRICT;
            CREATE INDEX events_by_edit ON events (edit_id);
            CREATE TRIGGER events_keep BEFORE DELETE ON events
                BEGIN SELECT RAISE(ABORT, 'the ledger is append-only'); END;
            CREATE TRIGGER events_freeze BEFORE UPDATE ON events
                BEGIN SELECT RAISE(ABORT, 'the ledger is append-only'); END;
            """
        )
        connection.execute(f"PRAGMA user_version={version}")
        connection.executemany(
            "INSERT INTO events (edit_id, status, detail, at) VALUES ('a', ?, ?, 1.0)",
            [(status, json.dumps(detail)) for status, detail in steps],
        )
    connection.close()
