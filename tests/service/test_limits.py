"""How much is taken at once: changes of one client, and edits that wait for their turn."""

import asyncio
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.leading import leading
from tests.service.steered import Steered, request
from vllm_edit.domain.edit import Status
from vllm_edit.domain.errors import QueueFull, RateLimited
from vllm_edit.security.rate_limit import BURST_SECONDS, RateLimiter


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def taken(limiter: RateLimiter, client: str, asked: int) -> int:
    """How many of so many requests at one time are admitted."""
    count = 0
    for _ in range(asked):
        try:
            limiter.admit(client)
        except RateLimited:
            continue
        count += 1
    return count


def test_a_burst_is_taken_and_then_the_rate() -> None:
    clock = Clock()
    limiter = RateLimiter(2.0, clock)
    assert taken(limiter, "a", 50) == 2 * BURST_SECONDS
    assert taken(limiter, "b", 1) == 1
    clock.now += 1.5
    assert taken(limiter, "a", 50) == 3
    clock.now += 1000
    assert taken(limiter, "a", 50) == 2 * BURST_SECONDS


def test_who_waits_as_told_is_admitted() -> None:
    clock = Clock()
    limiter = RateLimiter(0.01, clock)
    limiter.admit("a")
    with pytest.raises(RateLimited) as caught:
        limiter.admit("a")
    clock.now += caught.value.retry_after - 1
    assert taken(limiter, "a", 1) == 0
    clock.now += 1.001
    assert taken(limiter, "a", 2) == 1


def test_rate_zero_is_no_limit() -> None:
    assert taken(RateLimiter(0.0, Clock()), "a", 1000) == 1000


@settings(deadline=None)
@given(st.lists(st.tuples(st.floats(0, 5), st.integers(0, 60)), max_size=20))
def test_never_more_than_burst_and_rate(visits: list[tuple[float, int]]) -> None:
    clock = Clock()
    limiter = RateLimiter(4.0, clock)
    start, total = clock.now, 0
    for pause, asked in visits:
        clock.now += pause
        total += taken(limiter, "a", asked)
        assert total <= 4.0 * (BURST_SECONDS + clock.now - start) + 1e-6


def test_clients_that_are_long_gone_are_forgotten() -> None:
    clock = Clock()
    limiter = RateLimiter(1.0, clock)
    for number in range(20_000):
        limiter.admit(str(number))
        clock.now += 0.01
    assert len(limiter._full_at) < 11_000


async def test_a_full_queue_takes_no_more_and_records_nothing(path: Path) -> None:
    method = Steered()
    method.may_compute.clear()
    async with leading(path, method, max_queue=3) as service:
        some = [request(fact) for fact in ("capital", "river", "anthem")]
        waiting = asyncio.create_task(service.submit(some, wait=True))
        await method.computing.wait()
        with pytest.raises(QueueFull, match="3 edits are waiting, 1 more") as caught:
            await service.submit([request("colour")], wait=False)
        assert caught.value.retry_after > 0
        assert len(service.edits()) == 3
        method.may_compute.set()
        await waiting
        with pytest.raises(QueueFull, match="0 edits are waiting, 4 more"):
            await service.submit([*some, request("colour")], wait=False)
        (last,) = await service.submit([request("colour")], wait=True)
        assert last.status is Status.ACTIVE


async def test_edits_that_do_not_queue_are_taken_while_it_is_full(path: Path) -> None:
    method = Steered()
    method.queued = False
    async with leading(path, method, max_queue=0) as service:
        (edit,) = await service.submit([request("capital")], wait=True)
        assert edit.status is Status.ACTIVE
