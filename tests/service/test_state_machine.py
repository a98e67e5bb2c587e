"""Any order of posts, rollbacks, refusals and restarts against a plain list."""

import asyncio
import tempfile
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from tests.leading import leading
from tests.service.steered import Steered, request
from vllm_edit.domain.edit import EditRequest, Status
from vllm_edit.domain.errors import ConflictingState, SwapFailed

POSTS = st.lists(
    st.builds(
        request,
        fact=st.sampled_from(["capital", "river"]),
        method=st.sampled_from(["single", "batch"]),
    ),
    min_size=1,
    unique_by=lambda request: request.prompt,
)


@dataclass
class Posted:
    id: str
    fact: str
    ended: bool = False


class ServiceMachine(RuleBasedStateMachine):
    @initialize()
    def start(self) -> None:
        self.folder = tempfile.TemporaryDirectory()
        self.runner = asyncio.Runner()
        self.posted: list[Posted] = []
        self.runner.run(self._open())

    @rule(requests=POSTS)
    def post(self, requests: list[EditRequest]) -> None:
        edits = self.runner.run(self.service.submit(requests, wait=True))
        for edit in edits:
            refused = self.method.broken
            assert (edit.status is Status.FAILED) == refused
            self.posted.append(Posted(edit.id, edit.request.prompt, ended=refused))

    @rule(requests=POSTS)
    def post_and_stop(self, requests: list[EditRequest]) -> None:
        """Whatever was on its way then, the start brings to its end."""
        self.method.may_compute.clear()
        edits = self.runner.run(self.service.submit(requests, wait=False))
        self.posted += [Posted(edit.id, edit.request.prompt) for edit in edits]
        self.restart()

    @rule(number=st.integers(0, 30))
    def roll_back(self, number: int) -> None:
        if number >= len(self.posted):
            return
        edit = self.posted[number]
        taking = self.service.roll_back(edit.id)
        if edit.ended:
            with pytest.raises(ConflictingState):
                self.runner.run(taking)
        elif self.method.broken and edit in self._active():
            with pytest.raises(SwapFailed):
                self.runner.run(taking)
        else:
            self.runner.run(taking)
            edit.ended = True

    @rule(broken=st.booleans())
    def break_or_mend(self, broken: bool) -> None:
        self.method.broken = broken

    @rule()
    def restart(self) -> None:
        self.runner.run(self._stack.aclose())
        self.runner.run(self._open())

    @invariant()
    def the_latest_edit_of_each_fact_is_in_effect(self) -> None:
        active = self._active()
        assert sorted(self.method.effective) == sorted(edit.id for edit in active)
        for posted in self.posted:
            edit = self.service.get(posted.id)
            assert (edit.status is Status.ACTIVE) == (posted in active)
            later = [p.id for p in self._alive(posted.fact) if p in _after(self.posted, posted)]
            superseded = bool(later) and not posted.ended
            assert (edit.status is Status.SUPERSEDED) == superseded
            assert edit.superseded_by == (later[0] if superseded else None)

    def teardown(self) -> None:
        self.runner.run(self._stack.aclose())
        self.runner.close()
        self.folder.cleanup()

    async def _open(self) -> None:
        self.method = Steered()
        self._stack = AsyncExitStack()
        path = Path(self.folder.name) / "ledger.sqlite3"
        self.service = await self._stack.enter_async_context(leading(path, self.method))

    def _alive(self, fact: str) -> list[Posted]:
        return [edit for edit in self.posted if edit.fact == fact and not edit.ended]

    def _active(self) -> list[Posted]:
        facts = {edit.fact for edit in self.posted}
        return [self._alive(fact)[-1] for fact in facts if self._alive(fact)]


def _after(posted: Sequence[Posted], edit: Posted) -> Sequence[Posted]:
    return posted[posted.index(edit) + 1 :]


TestService = ServiceMachine.TestCase
TestService.settings = settings(max_examples=20, stateful_step_count=15, deadline=None)
