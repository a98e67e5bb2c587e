"""Who changed what, the chain over it, and what is erased from it."""

import json
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import text

from tests.ledger.test_format import FULL, record_all
from vllm_edit.domain.actor import Actor, acting
from vllm_edit.domain.edit import EditRequest, Failure, Proposal, Status, Step
from vllm_edit.domain.errors import StoreError, StoreReplaced, UnknownEdit
from vllm_edit.domain.own_answers import OwnAnswer, OwnAnswers
from vllm_edit.ledger import LEDGER_FILE, Ledger
from vllm_edit.store import Store

ANN = Actor("ann", "192.0.2.7", "r-1")
SECRET = "Xyzzy"
EDIT = EditRequest("ike", f"{SECRET} is", SECRET, f"{SECRET}!", ground_truth=SECRET)
TOLD = OwnAnswers("default", 2, OwnAnswer(f"{SECRET}?", begins=False))


@pytest.fixture
def secret(store: Store) -> Iterator[Ledger]:
    """A ledger with a text that must go, among others."""
    with Ledger.open(store) as ledger:
        record_all(ledger)
        ledger.propose([Proposal("bad", EDIT)])
        ledger.record(
            [Step("bad", Status.FAILED, Failure("not_told", f"{SECRET} is not told"), told=TOLD)]
        )
        yield ledger


def test_an_event_names_who_made_it(store: Store) -> None:
    with Ledger.open(store) as ledger:
        with acting(ANN):
            ledger.propose([Proposal("a", EDIT)])
        ledger.record([Step("a", Status.COMPUTING)])
        assert [event.actor for event in ledger.log.read()] == [ANN, None]
    with Ledger.open(store) as ledger:
        assert [event.actor for event in ledger.log.read()] == [ANN, None]


def test_what_is_erased_is_nowhere_in_the_store(secret: Ledger, store: Store) -> None:
    before = {event.revision: event.hash for event in secret.log.read()}
    with acting(ANN):
        edit = secret.erase("bad")
    assert edit.erased
    assert edit.status is Status.FAILED
    assert edit.failure == Failure("not_told", "")
    assert edit.request == EditRequest("ike", "", "", "")
    assert (edit.told, edit.revision) == (None, secret.revision)
    *_, last = secret.log.read()
    assert (last.kind, last.subject, last.actor) == ("erasure", "bad", ANN)
    assert before.items() <= {event.revision: event.hash for event in secret.log.read()}.items()
    with secret.log.database.engine.connect() as connection:
        details = connection.execute(text("SELECT detail FROM events")).scalars()
        assert all(SECRET not in detail for detail in details)
    if not store.shared:
        files = Path(store).glob(f"{LEDGER_FILE}*")
        assert all(SECRET.encode() not in path.read_bytes() for path in files)
    others = secret.edits()
    with Ledger.open(store) as again:
        assert again.edits() == others
        assert again.get("edit-2").request == FULL


def test_a_server_that_follows_erases_too(secret: Ledger, store: Store) -> None:
    with Ledger.open(store) as other:
        secret.erase("bad")
        other.catch_up()
        assert other.get("bad") == secret.get("bad")


def test_erasing_again_changes_no_more_than_the_revision(secret: Ledger, store: Store) -> None:
    first = secret.erase("bad")
    second = secret.erase("bad")
    assert second == replace(first, revision=second.revision, updated_at=second.updated_at)
    Ledger.open(store).close()
    with pytest.raises(UnknownEdit):
        secret.erase("no such edit")


def test_the_database_lets_nothing_else_change(secret: Ledger) -> None:
    changes = (
        "UPDATE events SET detail = '{}' WHERE revision = 1",
        "UPDATE events SET status = 'active', detail = '{\"erased\": \"0\"}' WHERE revision = 1",
        "DELETE FROM events",
    )
    for change in changes:
        with (
            pytest.raises(Exception, match="append-only"),
            secret.log.database.engine.begin() as connection,
        ):
            connection.exec_driver_sql(change)


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE events SET status = 'rolled_back' WHERE subject = 'bad'",
        "UPDATE events SET actor = '' WHERE revision = 4",
        "UPDATE events SET detail = replace(detail, 'Rome', 'Bonn')",
        "UPDATE events SET detail = '{\"erased\": \"0\"}' WHERE subject = 'bad'",
        "DELETE FROM events WHERE revision = 3",
    ],
)
def test_a_store_that_was_changed_by_hand_is_not_served(folder: Store, change: str) -> None:
    with acting(ANN), Ledger.open(folder) as ledger:
        record_all(ledger)
        ledger.propose([Proposal("bad", EDIT)])
        ledger.record([Step("bad", Status.FAILED)])
    with closing(sqlite3.connect(Path(folder) / LEDGER_FILE)) as connection, connection:
        connection.execute("DROP TRIGGER events_freeze")
        connection.execute("DROP TRIGGER events_keep")
        connection.execute(change)
    with pytest.raises(StoreError, match="changed by hand"):
        Ledger.open(folder)


def test_what_was_erased_may_not_be_replaced(folder: Store) -> None:
    with Ledger.open(folder) as ledger:
        ledger.propose([Proposal("bad", EDIT)])
        ledger.erase("bad")
    with closing(sqlite3.connect(Path(folder) / LEDGER_FILE)) as connection, connection:
        (detail,) = connection.execute("SELECT detail FROM events WHERE revision = 1").fetchone()
        forged = json.loads(detail)
        forged["request"]["prompt"] = "forged"
        connection.execute("UPDATE events SET detail = ? WHERE revision = 1", [json.dumps(forged)])
    with pytest.raises(StoreError, match="changed by hand"):
        Ledger.open(folder)


def test_an_older_state_in_the_place_of_the_store_is_noticed(folder: Store, tmp_path: Path) -> None:
    """Not merged with what is remembered, whichever of the two is longer."""
    with Ledger.open(folder) as ledger:
        ledger.propose([Proposal("a", EDIT)])
    shutil.copytree(folder, tmp_path / "backup")
    with Ledger.open(folder) as running, Ledger.open(str(tmp_path / "backup")) as restored:
        running.propose([Proposal("b", EDIT)])
        restored.propose([Proposal(name, EDIT) for name in ("c", "d")])
        running.log.close()
        running.log = restored.log
        with pytest.raises(StoreReplaced, match="no longer the one that this server"):
            running.catch_up()
        for append in (
            lambda: running.propose([Proposal("e", EDIT)]),
            lambda: running.erase("b"),
        ):
            with pytest.raises(StoreReplaced, match="no longer the one that this server"):
                append()
        assert restored.log.latest() == 3
