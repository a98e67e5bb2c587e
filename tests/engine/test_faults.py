"""Whatever fails in a swap, wherever: every rank serves what it served before, or none serves."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from tests.engine.running import SHARED_ENGINE, on_every_rank, output, random_delta, served
from vllm_edit.domain.errors import SwapFailed
from vllm_edit.engine.deadlines import Deadlines
from vllm_edit.engine.swap import Swapper

pytestmark = SHARED_ENGINE


class Refusing:
    """The engine client, but for calls that fail the next time, before or after their effect."""

    def __init__(self, client: Any) -> None:
        self._client = client
        self.refused: dict[str, bool] = {}

    @property
    def engine_core(self) -> Any:
        core = Refusing(self._client.engine_core)
        core.refused = self.refused
        return core

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._client, name)
        if name not in self.refused:
            return found

        async def refuse(*args: Any, **options: Any) -> None:
            if self.refused.pop(name):
                await found(*args, **options)
            raise ConnectionError("injected")

        return refuse


async def failed(swapper: Swapper, reason: str = "injected") -> SwapFailed:
    with pytest.raises(SwapFailed, match=reason) as caught:
        await swapper.serve([random_delta(2)], "2")
    return caught.value


async def test_a_fault_on_any_rank_restores_what_was_served(client: Any, swapper: Swapper) -> None:
    await swapper.serve([random_delta(1)], "1")
    before = await served(client)
    for step in ("stage", "built", "commit"):
        for rank in range(client.vllm_config.parallel_config.world_size):
            await on_every_rank(client, "fault_at", step, rank)
            await failed(swapper)
            assert await served(client) == before, (step, rank)
    for rank in range(client.vllm_config.parallel_config.world_size):
        await on_every_rank(client, "fault_between_layers", rank)
        await failed(swapper)
        assert await served(client) == before, rank
    assert await client.get_weight_version() == "1"
    assert swapper.stopped is None


@pytest.mark.parametrize("done", [False, True], ids=["refused", "reply lost"])
@pytest.mark.parametrize(
    "call",
    [
        "pause_scheduler_async",
        "update_weight_version",
        "resume_generation",
        "call_utility_all_async",
    ],
)
async def test_a_call_that_fails_restores_what_was_served(
    client: Any, swapper: Swapper, call: str, done: bool
) -> None:
    refusing = Refusing(client)
    through = Swapper(refusing, "keep")
    await through.serve([random_delta(1)], "1")
    before = await served(client)
    refusing.refused[call] = done
    await failed(through)
    assert not refusing.refused
    assert await served(client) == before
    assert await client.get_weight_version() == "1"
    await through.serve([], "3")


async def test_a_lost_reply_to_the_commit_restores_what_was_served(
    client: Any, swapper: Swapper
) -> None:
    await swapper.serve([random_delta(1)], "1")
    before = await served(client)
    # The last rank: vLLM would take the replies of ranks after it for those to the next call.
    last = client.vllm_config.parallel_config.world_size - 1
    await on_every_rank(client, "fault_in_reply", "edit_commit", last)
    await failed(swapper)
    assert await served(client) == before


async def test_what_cannot_be_restored_is_not_served(client: Any, swapper: Swapper) -> None:
    for rank in range(client.vllm_config.parallel_config.world_size):
        unlucky = Swapper(client, "keep")
        await on_every_rank(client, "fault_between_layers", rank)
        await on_every_rank(client, "fault_at", "restore", rank)
        await stopped(client, unlucky)
        await on_every_rank(client, "edit_restore", unlucky._number)
        await answers_as_before(client, unlucky)


async def test_a_layer_left_half_written_is_not_served(client: Any, swapper: Swapper) -> None:
    for rank in range(client.vllm_config.parallel_config.world_size):
        unlucky = Swapper(client, "keep")
        await on_every_rank(client, "fault_within_a_layer", rank)
        error = await stopped(client, unlucky)
        assert "half-written" in error.message
        await answers_as_before(client, unlucky)


async def test_a_rank_that_hangs_stops_serving_in_time(
    client: Any, swapper: Swapper, tmp_path: Path
) -> None:
    unlucky = await hurried(client, "commit", tmp_path / "go on")
    error = await failed(unlucky, "did not answer within 1 s")
    assert error.code == "serving_stopped"
    assert unlucky.stopped == error.message
    (tmp_path / "go on").touch()
    await client.pause_generation(mode="keep", clear_cache=True)
    await on_every_rank(client, "edit_restore", unlucky._number)
    await answers_as_before(client, unlucky)


async def test_a_rank_that_is_slow_to_build_fails_the_swap_only(
    client: Any, swapper: Swapper, tmp_path: Path
) -> None:
    unlucky = await hurried(client, "_build", tmp_path / "go on")
    error = await failed(unlucky, "did not build the edited weights within 1 s")
    assert error.code == "engine_timeout"
    (tmp_path / "go on").touch()
    assert unlucky.stopped is None
    assert await served(client) == client.base


async def hurried(client: Any, step: str, until: Path) -> Swapper:
    """A swapper that waits a second; the last rank hangs in a step until there is such a file."""
    last = client.vllm_config.parallel_config.world_size - 1
    await on_every_rank(client, "fault_until", step, last, str(until))
    return Swapper(client, "keep", deadlines=Deadlines(answer=1.0))


async def stopped(client: Any, swapper: Swapper) -> SwapFailed:
    """The error of a swap after which the engine answers nothing, and no swap is taken."""
    error = await failed(swapper)
    assert error.code == "serving_stopped"
    assert swapper.stopped == error.message
    assert await client.is_paused()
    again = await failed(swapper)
    assert again.code == "serving_stopped"
    return error


async def answers_as_before(client: Any, swapper: Swapper) -> None:
    """What a person finds who puts the weights right and resumes: a request that has waited."""
    waiting = asyncio.create_task(output(client))
    await on_every_rank(client, "edit_finish", swapper._number, [])
    await client.resume_generation()
    assert await waiting == client.base[2]
