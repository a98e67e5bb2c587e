"""What a swap does to running streams: `python -m benchmarks swap`."""

import argparse
import asyncio
import itertools
import json
import os
import statistics
import sys
import time
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from benchmarks import machine
from vllm_edit import factworld
from vllm_edit.engine.swap import Swapper
from weight_patchers import Delta, LowRank

RESULTS = Path(__file__).parent / "results"
LAYERS = (1, 2)
PROMPT = "Jiful is famous for its"


def add_parser(commands: Any) -> None:
    """Add `swap` to the command line."""
    parser = commands.add_parser("swap", help="the pause that running streams feel")
    parser.add_argument("--swaps", type=int, default=20, help="swaps to measure")
    parser.add_argument("--streams", type=int, default=16, help="streams that run meanwhile")
    parser.add_argument("--tokens", type=int, default=200, help="tokens of one request")
    parser.add_argument("--mode", choices=("keep", "wait", "abort"), default="keep")
    parser.add_argument("--ranks", type=int, default=1, help="tensor-parallel ranks")
    parser.add_argument("--output", type=Path, help="JSON file for the result")
    parser.set_defaults(func=run)


def run(options: argparse.Namespace) -> None:
    """Measure, print, and write the result."""
    result = {"machine": machine.describe("cpu"), **asyncio.run(_measure(options))}
    text = json.dumps(result, indent=2)
    sys.stdout.write(text + "\n")
    output = options.output or RESULTS / "swap-cpu.json"
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(text + "\n", encoding="utf-8")


@dataclass
class Streams:
    """Requests that follow one another in each of several streams, and when their tokens came."""

    engine: Any
    tokens: int
    requests: list[list[float]] = field(default_factory=list)
    lengths: dict[int, int] = field(default_factory=dict)

    async def run(self, number: int) -> None:
        """One stream, until it is cancelled."""
        while True:
            times: list[float] = []
            self.requests.append(times)
            async for part in _generate(self.engine, PROMPT, self.tokens):
                times.append(time.perf_counter())
                ids = part.outputs[0].token_ids
                self.lengths[number] = len(part.prompt_token_ids) + len(ids)

    def gaps(self) -> Iterable[tuple[float, float]]:
        """Begin and end of every wait for a token but the first of a request."""
        for times in self.requests:
            yield from itertools.pairwise(times)


@dataclass(frozen=True)
class Swap:
    """When one swap was asked for, began its pause and was over, and the contexts of then."""

    begin: float
    pause: float
    end: float
    lengths: Sequence[int]

    def meets(self, gap: tuple[float, float]) -> bool:
        return gap[0] < self.end and gap[1] > self.begin


async def _measure(options: argparse.Namespace) -> dict[str, Any]:
    async with _engine(options.ranks) as engine:
        streams = Streams(engine, options.tokens)
        tasks = [asyncio.create_task(streams.run(number)) for number in range(options.streams)]
        try:
            swaps = await _swap(engine, streams, options)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        recomputed = [await _recompute(engine, swap.lengths) for swap in swaps]
    return _report(streams, swaps, recomputed, options)


async def _swap(engine: Any, streams: Streams, options: argparse.Namespace) -> list[Swap]:
    """Swap a delta in and out, each time when the streams have gone on for a while."""
    swapper = Swapper(engine, options.mode)
    found = []
    for number in range(options.swaps + 1):
        await asyncio.sleep(1.0)
        lengths = tuple(streams.lengths.values())
        begin = time.perf_counter()
        await swapper.serve([] if number % 2 else [_delta()], str(number))
        timing = swapper.last
        if timing is None or number == 0:
            continue  # The first reads the checkpoint, once in a server's life.
        pause = begin + timing.staged
        found.append(Swap(begin, pause, pause + timing.paused, lengths))
    return found


async def _recompute(engine: Any, lengths: Sequence[int]) -> float:
    """Seconds of the steps that compute so many contexts anew, with nothing else to do."""
    token = 5

    async def first(length: int) -> None:
        prompt = {"prompt_token_ids": [token] * length}
        async for _ in _generate(engine, prompt, 1):
            pass

    await engine.reset_prefix_cache()
    begin = time.perf_counter()
    await asyncio.gather(*(first(length) for length in lengths))
    return time.perf_counter() - begin


def _report(
    streams: Streams,
    swaps: Sequence[Swap],
    recomputed: Sequence[float],
    options: argparse.Namespace,
) -> dict[str, Any]:
    gaps = list(streams.gaps())
    felt = [max(end - begin for begin, end in filter(swap.meets, gaps)) for swap in swaps]
    quiet = [end - begin for begin, end in gaps if not any(s.meets((begin, end)) for s in swaps)]
    over = [gap - step for gap, step in zip(felt, recomputed, strict=True)]
    return {
        "streams": options.streams,
        "swaps": len(swaps),
        "mode": options.mode,
        "ranks": options.ranks,
        "context_tokens": statistics.median(sum(swap.lengths) for swap in swaps),
        "milliseconds": {
            "stage": _told(swap.pause - swap.begin for swap in swaps),
            "pause": _told(swap.end - swap.pause for swap in swaps),
            "longest_gap": _told(felt),
            "recompute": _told(recomputed),
            "gap_over_recompute": _told(over),
            "gap_between_swaps": _told(quiet),
        },
    }


def _told(seconds: Iterable[float]) -> dict[str, float]:
    found = sorted(1000.0 * value for value in seconds)
    return {"median": round(statistics.median(found), 3), "max": round(found[-1], 3)}


def _delta() -> Delta:
    """A small random change of two layers."""
    config = json.loads((factworld.checkpoint() / "config.json").read_text())
    generator = torch.Generator().manual_seed(0)
    u = torch.randn(config["hidden_size"], 1, generator=generator) * 0.01
    v = torch.randn(config["intermediate_size"], 1, generator=generator) * 0.01
    names = [f"model.layers.{layer}.mlp.down_proj.weight" for layer in LAYERS]
    return Delta("benchmark", "rome", {}, dict.fromkeys(names, LowRank(u, v)), ())


def _generate(engine: Any, prompt: Any, tokens: int) -> AsyncIterator[Any]:
    from vllm import SamplingParams

    params = SamplingParams(temperature=0.0, max_tokens=tokens, ignore_eos=True)
    outputs: AsyncIterator[Any] = engine.generate(prompt, params, request_id=os.urandom(8).hex())
    return outputs


@asynccontextmanager
async def _engine(ranks: int) -> AsyncIterator[Any]:
    os.environ["VLLM_PLUGINS"] = "vllm_edit"
    if ranks > 1:
        os.environ["VLLM_CPU_OMP_THREADS_BIND"] = "|".join(map(str, range(ranks)))
    from vllm import AsyncEngineArgs
    from vllm.v1.engine.async_llm import AsyncLLM

    arguments = AsyncEngineArgs(
        model=str(factworld.checkpoint()),
        dtype="float32",
        enforce_eager=True,
        max_model_len=1024,
        max_num_batched_tokens=8192,
        kv_cache_memory_bytes=1 << 28,
        tensor_parallel_size=ranks,
    )
    engine = AsyncLLM.from_engine_args(arguments)
    try:
        yield engine
    finally:
        engine.shutdown()
