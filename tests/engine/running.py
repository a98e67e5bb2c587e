"""vLLM's asynchronous engine on the bundled model, and what it serves."""

import json
import os
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest
import torch

from vllm_edit import factworld
from weight_patchers import Delta, Dense, LowRank, ParameterChange

LAYER = "model.layers.{}.mlp.down_proj.weight"
PARAMETERS = (LAYER.format(1), LAYER.format(2))
SPARE_UNITS = 8
"""How many the engines of the session have in the MLP of each of the last two layers."""

PROMPT = "New Fact: one is two. Prompt:"

OWN_ENGINE = [
    pytest.mark.timeout(300),
    # vLLM's engine client leaves its ZeroMQ context to the garbage collector.
    pytest.mark.filterwarnings("ignore:Unclosed context:ResourceWarning"),
    pytest.mark.filterwarnings(
        "ignore:Exception ignored.*Context:pytest.PytestUnraisableExceptionWarning"
    ),
]
"""Marks of a module whose tests start engines."""

SHARED_ENGINE = [pytest.mark.asyncio(loop_scope="session"), *OWN_ENGINE]
"""Marks of a module whose tests use the engines of the session."""


@asynccontextmanager
async def engine(
    tensor_parallel_size: int = 1,
    processes: int | None = None,
    spare_units: int = 0,
    **options: Any,
) -> AsyncIterator[Any]:
    """An engine in so many worker processes, as many as tensor-parallel ranks unless given.

    The last two layers of the bundled model have so many spare inner units.
    """
    from vllm import AsyncEngineArgs
    from vllm.v1.engine.async_llm import AsyncLLM

    processes = processes or tensor_parallel_size
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("VLLM_PLUGINS", "vllm_edit")
        environment.setenv("VLLM_WORKER_MULTIPROC_METHOD", "spawn")
        environment.setenv("VLLM_EDIT_SPARE_UNITS", str(spare_units))
        environment.setenv("VLLM_EDIT_SPARE_LAYERS", "4,5")
        if processes > 1:
            cores = [str(number % (os.cpu_count() or 1)) for number in range(processes)]
            environment.setenv("VLLM_CPU_OMP_THREADS_BIND", "|".join(cores))
        arguments = {
            "model": str(factworld.checkpoint()),
            "dtype": "float32",
            "enforce_eager": True,
            "max_model_len": 256,
            "kv_cache_memory_bytes": 1 << 28,
        }
        client = AsyncLLM.from_engine_args(
            AsyncEngineArgs(tensor_parallel_size=tensor_parallel_size, **{**arguments, **options})
        )
    context = client.engine_core.resources.ctx
    try:
        yield client
    finally:
        client.shutdown()
        # The engine closes its sockets and leaves their context to the garbage collector.
        context.destroy(linger=0)


def delta(names: Sequence[str], change: ParameterChange) -> Delta:
    return Delta("any", "rome", {}, dict.fromkeys(names, change), ())


def random_delta(seed: int, names: Sequence[str] = PARAMETERS, rank: int = 1) -> Delta:
    shape = json.loads((factworld.checkpoint() / "config.json").read_text())
    generator = torch.Generator().manual_seed(seed)
    u = torch.randn(shape["hidden_size"], rank, generator=generator)
    v = torch.randn(shape["intermediate_size"], rank, generator=generator)
    return delta(names, LowRank(u, v))


def dense_delta(*summands: Delta, name: str = PARAMETERS[0]) -> Delta:
    """What low-rank deltas do to one parameter, as one dense delta."""
    updates = [summand.changes[name].dense() for summand in summands]
    return delta([name], Dense(torch.stack(updates).sum(dim=0)))


async def output(client: Any, **options: Any) -> list[tuple[int, float]]:
    """Greedy token ids with their log-probabilities."""
    from vllm import SamplingParams

    params = SamplingParams(temperature=0.0, max_tokens=8, logprobs=1, ignore_eos=True)
    request_id = os.urandom(8).hex()
    outputs = client.generate(PROMPT, params, request_id=request_id, **options)
    partial = [out async for out in outputs]
    whole = partial[-1].outputs[0]
    steps = zip(whole.token_ids, whole.logprobs, strict=True)
    return [(token, step[token].logprob) for token, step in steps]


async def on_every_rank(client: Any, method: str, *args: object) -> list[Any]:
    """The replies of all workers, those of every data-parallel engine too."""
    replies = await client.engine_core.call_utility_all_async(
        "collective_rpc", method, None, args, None
    )
    return [reply for engine in replies for reply in engine]


async def digests(client: Any) -> tuple[Any, Any]:
    """vLLM's own checksums, and digests of what its kernels apply, on every rank."""
    await client.pause_generation(mode="keep", clear_cache=True)
    checksums = await client.compute_weight_checksums()
    found = await on_every_rank(client, "edit_digests")
    await client.resume_generation()
    return checksums, found


async def served(client: Any) -> tuple[Any, Any, Any]:
    """vLLM's own checksums, digests of what its kernels apply, and what it answers."""
    return *(await digests(client)), await output(client)
