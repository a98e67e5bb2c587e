"""Two ledgers on one log, in any order of calls, against a plain list of what was recorded."""

import tempfile
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from vllm_edit.domain.edit import EditRequest, Proposal, Status, Step
from vllm_edit.domain.errors import UnknownEdit
from vllm_edit.ledger import Event, Ledger

LEDGERS = st.sampled_from([0, 1])
IDS = st.integers(0, 5).map(str)


class LedgerMachine(RuleBasedStateMachine):
    @initialize()
    def start(self) -> None:
        self.folder = tempfile.TemporaryDirectory()
        self.recorded: list[tuple[str, Status]] = []
        self.known = [0, 0]
        self.reported: list[list[Event]] = [[], []]
        self.own: list[set[int]] = [set(), set()]
        self.leader: int | None = None
        self.ledgers = [self._open(), self._open()]

    def _open(self) -> Ledger:
        return Ledger(Path(self.folder.name) / "ledger.sqlite3")

    @rule(n=LEDGERS, ids=st.lists(IDS, min_size=1, max_size=3, unique=True))
    def propose(self, n: int, ids: list[str]) -> None:
        new = [i for i in ids if i not in dict(self.recorded)]
        request = EditRequest("ike", "X is", "X", "Y")
        proposals = [Proposal(i, request) for i in new]
        self.ledgers[n].propose(proposals)
        self._record(n, [(i, Status.PROPOSED) for i in new])

    @rule(n=LEDGERS, ids=st.lists(IDS, min_size=1, max_size=3), status=st.sampled_from(Status))
    def step(self, n: int, ids: list[str], status: Status) -> None:
        steps = [Step(i, status) for i in ids]
        unknown = set(ids) - dict(self.recorded[: self.known[n]]).keys()
        if unknown:
            with pytest.raises(UnknownEdit):
                self.ledgers[n].record(steps)
            return
        self.ledgers[n].record(steps)
        self._record(n, [(i, status) for i in ids])

    @rule(n=LEDGERS)
    def catch_up(self, n: int) -> None:
        self.reported[n] += self.ledgers[n].catch_up()
        self.known[n] = len(self.recorded)

    @rule(n=LEDGERS)
    def lead(self, n: int) -> None:
        led = self.ledgers[n].leadership.lead()
        assert led == (self.leader in (None, n))
        if led:
            self.leader = n

    @rule(n=LEDGERS)
    def reopen(self, n: int) -> None:
        self.ledgers[n].close()
        if self.leader == n:
            self.leader = None
        self.ledgers[n] = self._open()
        self.known[n] = len(self.recorded)
        self.own[n] = set(range(1, len(self.recorded) + 1))
        self.reported[n] = []

    @invariant()
    def every_ledger_tells_what_was_recorded_as_far_as_it_knows(self) -> None:
        for ledger, known, own, reported in zip(
            self.ledgers, self.known, self.own, self.reported, strict=True
        ):
            assert ledger.revision == known
            assert {e.id: e.status for e in ledger.edits()} == dict(self.recorded[:known])
            revisions = [event.revision for event in reported]
            assert revisions == sorted(set(revisions) - own)
            for event in reported:
                assert (event.subject, event.status) == self.recorded[event.revision - 1]

    def teardown(self) -> None:
        for number, ledger in enumerate(self.ledgers):
            self.reported[number] += ledger.catch_up()
            heard = {event.revision for event in self.reported[number]} | self.own[number]
            assert heard == set(range(1, len(self.recorded) + 1))
            ledger.close()
        self.folder.cleanup()

    def _record(self, n: int, steps: list[tuple[str, Status]]) -> None:
        first = len(self.recorded) + 1
        self.recorded += steps
        self.own[n] |= set(range(first, len(self.recorded) + 1))
        if steps:
            self.known[n] = len(self.recorded)


TestLedger = LedgerMachine.TestCase
TestLedger.settings = settings(max_examples=20, stateful_step_count=20, deadline=None)
