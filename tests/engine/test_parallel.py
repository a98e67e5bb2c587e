"""A swap on data-parallel engines and pipeline stages."""

from typing import Any

import pytest

from tests.engine.running import (
    LAYER,
    OWN_ENGINE,
    digests,
    engine,
    on_every_rank,
    output,
    random_delta,
)
from vllm_edit.domain.errors import SwapFailed
from vllm_edit.engine.swap import Swapper

pytestmark = [pytest.mark.slow, *OWN_ENGINE]

FAULTS = "tests.engine.faults.Faults"


async def test_every_data_parallel_engine_is_swapped_or_none() -> None:
    async with engine(processes=2, data_parallel_size=2, worker_extension_cls=FAULTS) as client:

        async def answers() -> list[Any]:
            return [await output(client, data_parallel_rank=rank) for rank in range(2)]

        swapper = Swapper(client, "keep")
        base = await digests(client), await answers()
        assert len(base[0][1]) == 2
        await swapper.serve([random_delta(1)], "1")
        one = await digests(client), await answers()
        assert one[1][0] == one[1][1] != base[1][0]
        for rank in range(2):
            # vLLM's collective_rpc tells what the first engine answers, and drops the others'.
            await on_every_rank(client, "fault_at", "commit", rank)
            with pytest.raises(SwapFailed, match="injected"):
                await swapper.serve([random_delta(2)], "2")
            assert (await digests(client), await answers()) == one
            assert await client.get_weight_version() == "1"
        await swapper.serve([], "3")
        assert (await digests(client), await answers()) == base


async def test_each_pipeline_stage_swaps_its_own_layers() -> None:
    """vLLM's CPU build starts two stages and cannot step them: weights are swapped, none asked."""
    layers = [LAYER.format(number) for number in (1, 4)]
    async with engine(processes=2, pipeline_parallel_size=2, worker_extension_cls=FAULTS) as client:
        swapper = Swapper(client, "keep")
        base = await digests(client)
        changed = []
        for names in ([layers[0]], [layers[1]], layers):
            await swapper.serve([random_delta(1, names)], "1")
            found = await digests(client)
            stages = zip(found[1], base[1], strict=True)
            changed.append([sum(new[n] != old[n] for n in old) for new, old in stages])
        assert changed == [[1, 0], [0, 1], [1, 1]]
        for rank in range(2):
            await on_every_rank(client, "fault_at", "commit", rank)
            with pytest.raises(SwapFailed, match="injected"):
                await swapper.serve([random_delta(2, layers)], "2")
            assert await digests(client) == found
        await swapper.serve([], "3")
        assert await digests(client) == base
        # From here on vLLM takes replies of the second stage for those to the call after.
        await on_every_rank(client, "fault_in_reply", "edit_commit", 0)
        with pytest.raises(SwapFailed) as caught:
            await swapper.serve([random_delta(2, layers)], "4")
        assert caught.value.code == "serving_stopped"
        assert await client.is_paused()
