"""The pace of swaps, by a clock of the test's own."""

import asyncio
from collections.abc import Mapping

import pytest

from vllm_edit.engine import pace
from vllm_edit.engine.pace import Pace


class Clock:
    """Time that passes when somebody sleeps, and requests that go on at set times."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 100.0
        self.tokens: dict[str, int] = {}
        self.later: dict[float, dict[str, int]] = {}
        sleep = asyncio.sleep

        async def passing(seconds: float) -> None:
            self.now += seconds
            for moment in [m for m in self.later if m <= self.now]:
                self.tokens = self.later.pop(moment)
            await sleep(0)

        monkeypatch.setattr(pace.time, "perf_counter", lambda: self.now)
        monkeypatch.setattr(pace.asyncio, "sleep", passing)

    def running(self) -> Mapping[str, int]:
        return self.tokens


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


async def swap(paced: Pace) -> None:
    await paced.wait()
    paced.record_swap(pace.time.perf_counter())


async def test_swaps_take_their_share_while_requests_run(clock: Clock) -> None:
    paced = Pace(clock.running, 0.1)
    clock.tokens = {"long": 3, "ends": 5}
    clock.later = {100.2: {"long": 3}, 100.5: {"long": 4}}
    await swap(paced)
    await paced.wait()
    # Half a second for the swap, and nine times as long until the next.
    assert clock.now == pytest.approx(105.0, abs=0.1)


async def test_a_swap_that_did_not_wait_is_rested_for_later(clock: Clock) -> None:
    paced = Pace(clock.running, 0.1)
    clock.tokens = {"long": 3}
    clock.later = {100.5: {"long": 4}}
    await swap(paced)
    await paced.wait()
    paced.record_swap(clock.now)
    clock.later = {clock.now + 0.5: {"long": 5}}
    paced.record_swap(clock.now)
    await paced.wait()
    assert clock.now > 109.0


async def test_no_swap_waits_while_no_request_runs(clock: Clock) -> None:
    paced = Pace(clock.running, 0.1)
    for _ in range(5):
        await swap(paced)
    assert clock.now == 100.0

    clock.tokens = {"a": 1}
    clock.later = {100.5: {"a": 2}, 101.0: {}}
    await swap(paced)
    await paced.wait()
    assert clock.now == pytest.approx(101.0, abs=0.1)


async def test_a_request_that_stands_still_is_not_waited_for(clock: Clock) -> None:
    paced = Pace(clock.running, 0.1)
    clock.tokens = {"stuck": 1}
    await swap(paced)
    await paced.wait()
    assert clock.now == pytest.approx(130.0, abs=0.1)


async def test_it_ends_while_it_watches(clock: Clock) -> None:
    paced = Pace(clock.running, 0.1)
    await paced.close()
    clock.tokens = {"stuck": 1}
    await swap(paced)
    await paced.close()
    assert asyncio.all_tasks() == {asyncio.current_task()}
