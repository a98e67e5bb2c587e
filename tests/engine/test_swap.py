"""The swap itself, on the real engine at TP 1 and TP 2: exact forward, exact back, all or none."""

import json
import os
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest
import torch

from vllm_edit import factworld
from vllm_edit.engine.swap import Swapper
from vllm_edit.errors import SwapFailed
from weight_patchers import Change, Delta, Dense, LowRank

PARAMETERS = ("model.layers.1.mlp.down_proj.weight", "model.layers.2.mlp.down_proj.weight")
PROMPT = "New Fact: one is two. Prompt:"


@asynccontextmanager
async def engine(tensor_parallel_size: int) -> AsyncIterator[Any]:
    """vLLM's asynchronous engine on the bundled model, in processes of its own."""
    from vllm import AsyncEngineArgs
    from vllm.v1.engine.async_llm import AsyncLLM

    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("VLLM_PLUGINS", "vllm_edit")
        environment.setenv("VLLM_WORKER_MULTIPROC_METHOD", "spawn")
        if tensor_parallel_size > 1:
            ranks = "|".join(str(rank) for rank in range(tensor_parallel_size))
            environment.setenv("VLLM_CPU_OMP_THREADS_BIND", ranks)
        client = AsyncLLM.from_engine_args(
            AsyncEngineArgs(
                model=str(factworld.checkpoint()),
                dtype="float32",
                enforce_eager=True,
                max_model_len=256,
                kv_cache_memory_bytes=1 << 28,
                tensor_parallel_size=tensor_parallel_size,
            )
        )
        context = client.engine_core.resources.ctx
        try:
            yield client
        finally:
            client.shutdown()
            # The engine closes its sockets and leaves their context to the garbage collector.
            context.destroy(linger=0)


def delta(names: Sequence[str], change: Change) -> Delta:
    return Delta("any", "rome", {}, dict.fromkeys(names, change), ())


def random_delta(seed: int, names: Sequence[str] = PARAMETERS) -> Delta:
    shape = json.loads((factworld.checkpoint() / "config.json").read_text())
    generator = torch.Generator().manual_seed(seed)
    u = torch.randn(shape["hidden_size"], 1, generator=generator)
    v = torch.randn(shape["intermediate_size"], 1, generator=generator)
    return delta(names, LowRank(u, v))


def dense_delta(*summands: Delta, name: str = PARAMETERS[0]) -> Delta:
    """What low-rank deltas do to one parameter, as one dense delta."""
    updates = [summand.changes[name].dense() for summand in summands]
    return delta([name], Dense(torch.stack(updates).sum(dim=0)))


async def output(client: Any) -> list[tuple[int, float]]:
    """Greedy token ids with their log-probabilities."""
    from vllm import SamplingParams

    params = SamplingParams(temperature=0.0, max_tokens=8, logprobs=1, ignore_eos=True)
    request_id = os.urandom(8).hex()
    partial = [out async for out in client.generate(PROMPT, params, request_id=request_id)]
    whole = partial[-1].outputs[0]
    steps = zip(whole.token_ids, whole.logprobs, strict=True)
    return [(token, step[token].logprob) for token, step in steps]


async def served(client: Any) -> tuple[Any, Any, Any]:
    """vLLM's own checksums, digests of what its kernels apply, and what it answers."""
    await client.pause_generation(mode="keep", clear_cache=True)
    checksums = await client.compute_weight_checksums()
    digests = await client.collective_rpc("edit_digests")
    await client.resume_generation()
    return checksums, digests, await output(client)


async def exercise(ranks: int) -> list[tuple[int, float]]:
    """Swap forth and back on so many ranks; returns the output under the first delta."""
    first, second = random_delta(1), random_delta(2, PARAMETERS[:1])
    third = random_delta(3, PARAMETERS[:1])
    elsewhere = "model.layers.{}.mlp.down_proj.weight"
    unknown = delta([elsewhere.format(99)], LowRank(torch.ones(1, 1), torch.ones(1, 1)))
    misshapen = delta(PARAMETERS[:1], LowRank(torch.ones(3, 1), torch.ones(5, 1)))
    too_small = delta([elsewhere.format(3)], Dense(torch.ones(3, 5)))
    huge = delta(PARAMETERS[:1], Dense(torch.full(first.changes[PARAMETERS[0]].shape, 3e38)))
    async with engine(ranks) as client:
        swapper = Swapper(client, "keep")
        base = await served(client)
        await swapper.serve([first], "1")
        assert await client.get_weight_version() == "1"
        one = await served(client)
        assert one[1] != base[1]
        assert one[2] != base[2]
        await swapper.serve([first, second], "2")
        both = await served(client)
        assert both[1] != one[1]

        for bad in (unknown, misshapen, too_small, huge):
            with pytest.raises(SwapFailed):
                await swapper.serve([first, bad, bad], "3")
            assert await served(client) == both
            assert await client.get_weight_version() == "2"

        await swapper.serve([second], "4")
        await swapper.serve([first], "5")
        assert await served(client) == one

        await swapper.serve([dense_delta(third)], "6")
        full = await served(client)
        await swapper.serve([third], "7")
        assert await served(client) == full
        await swapper.serve([dense_delta(third), second, dense_delta(first)], "8")
        beside = await served(client)
        await swapper.serve([second, dense_delta(first, third)], "9")
        assert await served(client) == beside
        assert len({str(seen) for seen in (base, one, both, full, beside)}) == 5
        await swapper.serve([], "10")
        assert await served(client) == base
    return one[2]


# vLLM's engine client leaves its ZeroMQ context to the garbage collector.
@pytest.mark.filterwarnings("ignore:Unclosed context:ResourceWarning")
@pytest.mark.filterwarnings(
    "ignore:Exception ignored.*Context:pytest.PytestUnraisableExceptionWarning"
)
@pytest.mark.timeout(300)
async def test_a_swap_is_exact_both_ways_and_equal_on_one_rank_and_on_two() -> None:
    one, two = await exercise(1), await exercise(2)
    assert [token for token, _ in one] == [token for token, _ in two]
    assert [p for _, p in one] == pytest.approx([p for _, p in two], abs=1e-3)
