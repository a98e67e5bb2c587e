"""One leader at a time, on a real file lock and a real database's session."""

import multiprocessing
import time

import pytest

from tests.ledger.programs import LEAD, lines, running
from vllm_edit.domain.edit import EditRequest, Proposal, Status, Step
from vllm_edit.domain.errors import StoreError, StoreLocked
from vllm_edit.ledger import Entry, Leadership, Ledger, Log, database_of
from vllm_edit.store import Store

ENTRY = Entry("edit", "a", "proposed", {})
PROPOSAL = Proposal("a", EditRequest("ike", "X is", "X", "Y"))


def test_one_leads_until_it_lets_go(store: Store) -> None:
    with Ledger.open(store) as first, Ledger.open(store) as second:
        assert not first.leadership.held()
        assert first.leadership.lead()
        assert first.leadership.lead()
        assert first.leadership.term == 1
        assert first.leadership.held()
        assert not second.leadership.lead()
        assert not second.leadership.held()
        with pytest.raises(StoreLocked, match="Another server uses the edit store"):
            second.leadership.require()
        first.leadership.release()
        assert second.try_to_lead("")
        assert second.leadership.term == 2
        assert not first.leadership.lead()
    with Ledger.open(store) as third:
        assert third.try_to_lead("")


def test_who_does_not_lead_may_read(store: Store) -> None:
    with Ledger.open(store) as leader, Ledger.open(store) as follower:
        assert leader.try_to_lead("")
        leader.propose([PROPOSAL])
        assert [event.subject for event in follower.catch_up()] == ["a"]
        assert follower.edits() == leader.edits()


def test_the_lead_ends_with_the_process(store: Store) -> None:
    with running(LEAD, store) as process, Ledger.open(store) as follower:
        assert next(lines(process)) == "True"
        assert not follower.leadership.lead()
        process.kill()
        deadline = time.monotonic() + 30.0
        while not follower.leadership.lead():
            assert time.monotonic() < deadline
        assert follower.leadership.term == 2


def test_a_forked_child_does_not_keep_the_lead(folder: Store) -> None:
    context = multiprocessing.get_context("fork")
    with Ledger.open(folder) as leader, Ledger.open(folder) as other:
        assert leader.try_to_lead("")
        forked, stop = context.Event(), context.Event()
        child = context.Process(target=lambda: forked.set() or stop.wait(60.0))
        child.start()
        try:
            assert forked.wait(30.0)
            assert not other.leadership.lead()
            leader.leadership.release()
            assert other.leadership.lead()
        finally:
            stop.set()
            child.join()


def test_who_led_before_can_append_no_more(store: Store) -> None:
    with Log(database_of(store)) as log:
        leadership = Leadership(log)
        assert leadership.lead()
        log.append([ENTRY], leadership.term)
        log.begin_term()
        with pytest.raises(StoreLocked, match="nothing was recorded"):
            log.append([ENTRY], leadership.term)
        assert log.latest() == 1
        leadership.release()


def lose(ledger: Ledger, store: Store) -> None:
    """Let the database end the leader's session."""
    with Log(database_of(store)) as log, log.database.engine.connect() as connection:
        connection.exec_driver_sql(
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_locks "
            "WHERE locktype = 'advisory' AND pid <> pg_backend_pid() "
            "AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
        )


def test_a_lost_lead_is_noticed_and_taken_again(database: Store) -> None:
    with Ledger.open(database) as ledger:
        assert ledger.try_to_lead("")
        ledger.propose([PROPOSAL])
        lose(ledger, database)
        assert not ledger.leadership.held()
        ledger.record([Step("a", Status.ACTIVE)])
        assert ledger.leadership.held()
        assert ledger.leadership.term == 2


def test_a_lost_lead_that_another_has_is_not_used(database: Store) -> None:
    with Ledger.open(database) as first, Ledger.open(database) as second:
        assert first.try_to_lead("")
        first.propose([PROPOSAL])
        lose(first, database)
        assert second.try_to_lead("")
        with pytest.raises(StoreLocked, match="Another server uses"):
            first.record([Step("a", Status.ACTIVE)])
        assert first.catch_up() == []


def test_a_lead_is_not_taken_again_over_what_another_recorded(database: Store) -> None:
    with Ledger.open(database) as first, Ledger.open(database) as second:
        assert first.try_to_lead("")
        first.propose([PROPOSAL])
        lose(first, database)
        assert second.try_to_lead("")
        second.record([Step("a", Status.ACTIVE)])
        second.leadership.release()
        for _ in range(2):
            with pytest.raises(StoreLocked, match="Another server has changed"):
                first.record([Step("a", Status.FAILED)])
        (event,) = first.catch_up()
        assert event.status == "active"
        first.record([Step("a", Status.ROLLED_BACK)])
        assert first.leadership.held()


def test_a_store_that_cannot_be_locked_says_so(folder: Store) -> None:
    with Ledger.open(folder) as ledger:
        path = ledger.log.database.lock()._path  # type: ignore[attr-defined]
        path.mkdir()
        with pytest.raises(StoreError, match="cannot be locked"):
            ledger.try_to_lead("")
