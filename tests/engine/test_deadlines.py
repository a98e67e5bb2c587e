"""A swap of an engine that stops answering, at any step: it ends in time, and says what is served.

The engine here only answers; `test_faults.py` has real ones.
"""

import asyncio
from typing import Any

import pytest
import torch

from vllm_edit.domain.errors import SwapFailed
from vllm_edit.engine.adapter_change import AdapterChange
from vllm_edit.engine.deadlines import Deadlines
from vllm_edit.engine.step_reply import StepReply
from vllm_edit.engine.swap import Swapper
from weight_patchers import Delta, LowRank

NAME = "model.layers.0.mlp.down_proj.weight"
DELTA = Delta("any", "rome", {}, {NAME: LowRank(torch.ones(2, 1), torch.ones(3, 1))}, ())


class Engine:
    """Answers every call but those in ``silent``; from ``dies_at`` on it answers none."""

    def __init__(self) -> None:
        self.renderer = self.engine_core = self
        self.silent: set[str] = set()
        self.dies_at = ""
        self.ready = True
        self.version = "default"
        self.paused = False

    async def _called(self, name: str) -> None:
        if name == self.dies_at:
            self.silent |= {"edit_commit", "edit_restore", "edit_finish", "pause", "resume"}
        if name in self.silent:
            await asyncio.Event().wait()

    async def call_utility_all_async(self, _: str, step: str, *args: Any) -> list[list[Any]]:
        await self._called(step)
        number = args[1][0]
        return [[StepReply(step, number, None, self.ready, [NAME]).to_wire()]]

    async def clear_mm_cache_async(self) -> None:
        pass

    async def pause_scheduler_async(self, mode: str, clear_cache: bool) -> None:
        await self._called("pause")
        self.paused = True

    async def resume_generation(self) -> None:
        await self._called("resume")
        self.paused = False

    async def get_weight_version(self) -> str:
        return self.version

    async def update_weight_version(self, version: str) -> None:
        self.version = version


class Outlasting(AdapterChange):
    """A variant ends, and a request of it does not."""

    taken_back = False

    async def end_unfit(self) -> None:
        await asyncio.Event().wait()

    async def take_back(self) -> None:
        self.taken_back = True


@pytest.fixture
def engine() -> Engine:
    return Engine()


@pytest.fixture
def swapper(engine: Engine) -> Swapper:
    return Swapper(engine, "keep", deadlines=Deadlines(answer=0.05, requests=0.05))  # type: ignore[arg-type]


async def failed(swapper: Swapper, *args: Any) -> str:
    """The code of the error of a swap."""
    async with asyncio.timeout(10):
        with pytest.raises(SwapFailed) as refused:
            await swapper.serve([DELTA], "1", *args)
    return refused.value.code


@pytest.mark.parametrize("step", ["edit_commit", "resume"])
async def test_an_engine_that_dies_in_the_pause_stops_serving(
    engine: Engine, swapper: Swapper, step: str
) -> None:
    engine.dies_at = step
    assert await failed(swapper) == "serving_stopped"
    assert swapper.stopped is not None
    assert await failed(swapper) == "serving_stopped"


async def test_a_commit_that_alone_is_not_answered_is_undone(
    engine: Engine, swapper: Swapper
) -> None:
    engine.silent = {"edit_commit"}
    assert await failed(swapper) == "engine_timeout"
    assert (engine.version, engine.paused, swapper.stopped) == ("default", False, None)


async def test_weights_that_are_never_built_fail_the_swap_only(
    engine: Engine, swapper: Swapper
) -> None:
    engine.ready = False
    assert await failed(swapper) == "engine_timeout"
    engine.ready = True
    await swapper.serve([DELTA], "1")
    assert (engine.version, engine.paused, swapper.stopped) == ("1", False, None)


async def test_requests_that_do_not_end_make_a_swap_that_waits_fail(
    engine: Engine, swapper: Swapper
) -> None:
    engine.silent = {"pause"}
    assert await failed(swapper, "wait") == "requests_running"
    assert (engine.version, engine.paused, swapper.stopped) == ("default", False, None)


async def test_requests_of_a_variant_that_ends_are_waited_for_and_no_longer(
    engine: Engine, swapper: Swapper
) -> None:
    change = Outlasting()
    assert await failed(swapper, "wait", change) == "requests_running"
    assert change.taken_back
    for version, mode in (("1", "keep"), ("2", "abort")):
        async with asyncio.timeout(10):
            await swapper.serve([DELTA], version, mode, Outlasting())  # type: ignore[arg-type]
        assert engine.version == version
