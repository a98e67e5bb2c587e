"""The effect of a swap on running streams: `python -m benchmarks swap`."""

import argparse
import asyncio
import gc
import itertools
import json
import os
import statistics
import time
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import torch

from benchmarks import machine, results
from benchmarks.step_recorder import EngineStep
from vllm_edit import factworld
from vllm_edit.engine.swap import Swapper, Timing
from vllm_edit.vllm_interface.benchmarking import sampling, start_engine
from weight_patchers import Delta, LowRank

LAYERS = (1, 2)
SECONDS_BETWEEN = 1.0

Interval = tuple[float, float]
"""Begin and end, by time.perf_counter."""


def add_parser(commands: Any) -> None:
    """Add `swap` to the command line."""
    parser = commands.add_parser("swap", help="the pause that running streams feel")
    parser.add_argument("--swaps", type=int, default=20, help="swaps to measure")
    parser.add_argument("--streams", type=int, default=16, help="streams that run meanwhile")
    parser.add_argument("--tokens", type=int, default=200, help="tokens of one request")
    parser.add_argument("--ranks", type=int, default=1, help="tensor-parallel ranks")
    results.add_output(parser)
    parser.set_defaults(func=run)


def run(options: argparse.Namespace) -> None:
    """Measure, print, and write the result."""
    result = {"machine": machine.describe("cpu"), **asyncio.run(_measure(options))}
    results.write(result, options.output, "swap-cpu.json")


@dataclass
class Streams:
    """Several streams of consecutive requests, with the arrival times of their tokens."""

    engine: Any
    tokens: int
    requests: list[list[float]] = field(default_factory=list)

    async def run(self, prompt: str) -> None:
        """One stream, until it is cancelled."""
        params = sampling(temperature=0.0, max_tokens=self.tokens, ignore_eos=True)
        while True:
            times: list[float] = []
            self.requests.append(times)
            outputs = self.engine.generate(prompt, params, request_id=os.urandom(8).hex())
            async for _ in outputs:
                now = time.perf_counter()
                times.append(now)

    def gaps(self) -> Iterable[Interval]:
        """Every wait for a token except the first of a request."""
        for times in self.requests:
            yield from itertools.pairwise(times)


@dataclass(frozen=True)
class SwapImpact:
    """How one swap delayed the streams, in seconds.

    `gap` is the longest wait for a token that overlaps the pause; `stage_gap` is the longest other
    wait while the swap was staged. `step` is the engine's first step after the pause, which
    computes `context` tokens again.
    """

    stage: float
    pause: float
    gap: float
    stage_gap: float
    step: float
    context: int

    @classmethod
    def of(
        cls, timing: Timing, gaps: Sequence[Interval], steps: Sequence[EngineStep]
    ) -> "SwapImpact":
        paused = [gap for gap in gaps if _meets(gap, (timing.paused, timing.resumed))]
        staged = [gap for gap in gaps if _meets(gap, (timing.staged, timing.paused))]
        begin, end, context = next(
            s for s in steps if timing.paused < s[0] and s[1] > timing.resumed
        )
        return cls(
            stage=timing.paused - timing.staged,
            pause=timing.resumed - timing.paused,
            gap=_longest(paused),
            stage_gap=_longest(set(staged) - set(paused)),
            step=end - begin,
            context=context,
        )


async def _measure(options: argparse.Namespace) -> dict[str, Any]:
    async with _engine(options.ranks) as engine:
        await engine.collective_rpc("record_steps")
        streams = Streams(engine, options.tokens)
        # Different prompts, because equal ones would share their computation.
        records = factworld.requests("easyedit", options.streams, seed=0)
        tasks = [asyncio.create_task(streams.run(record["prompt"])) for record in records]
        timings = await _swap(Swapper(engine, "keep"), options.swaps)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        steps = (await engine.collective_rpc("recorded_steps"))[0]
    gaps = list(streams.gaps())
    felt = [SwapImpact.of(timing, gaps, steps) for timing in timings]
    quiet = [g for g in gaps if not any(_meets(g, (t.staged, t.resumed)) for t in timings)]
    decoding = [end - begin for begin, end, tokens in steps if tokens == options.streams]
    return {
        "streams": options.streams,
        "swaps": len(felt),
        "ranks": options.ranks,
        "context_tokens": statistics.median(f.context for f in felt),
        "milliseconds": {
            "stage": _median_and_max_ms(f.stage for f in felt),
            "pause": _median_and_max_ms(f.pause for f in felt),
            "longest_gap": _median_and_max_ms(f.gap for f in felt),
            "recompute_step": _median_and_max_ms(f.step for f in felt),
            "gap_over_recompute_step": _median_and_max_ms(f.gap - f.step for f in felt),
            "longest_gap_while_staged": _median_and_max_ms(f.stage_gap for f in felt),
            "gap_between_swaps": _median_and_max_ms(end - begin for begin, end in quiet),
            "decoding_step": _median_and_max_ms(decoding),
        },
    }


async def _swap(swapper: Swapper, count: int) -> list[Timing]:
    """Swap a delta in and out, with time between for the streams to continue."""
    timings = []
    # The first swap is not counted: it reads the checkpoint, which happens once per server.
    for number in range(count + 1):
        await asyncio.sleep(SECONDS_BETWEEN)
        await swapper.serve([] if number % 2 else [_delta()], str(number))
        if number and swapper.timing is not None:
            timings.append(swapper.timing)
    await asyncio.sleep(SECONDS_BETWEEN)
    return timings


def _meets(gap: Interval, span: Interval) -> bool:
    return gap[0] < span[1] and gap[1] > span[0]


def _longest(gaps: Iterable[Interval]) -> float:
    return max((end - begin for begin, end in gaps), default=0.0)


def _median_and_max_ms(seconds: Iterable[float]) -> dict[str, float]:
    milliseconds = sorted(1000.0 * value for value in seconds)
    return {"median": round(statistics.median(milliseconds), 3), "max": round(milliseconds[-1], 3)}


def _delta() -> Delta:
    """A small random change of two layers."""
    config = json.loads((factworld.checkpoint() / "config.json").read_text())
    generator = torch.Generator().manual_seed(0)
    u = torch.randn(config["hidden_size"], 1, generator=generator) * 0.01
    v = torch.randn(config["intermediate_size"], 1, generator=generator) * 0.01
    names = [f"model.layers.{layer}.mlp.down_proj.weight" for layer in LAYERS]
    return Delta("benchmark", "rome", {}, dict.fromkeys(names, LowRank(u, v)), ())


@asynccontextmanager
async def _engine(ranks: int) -> AsyncIterator[Any]:
    os.environ["VLLM_PLUGINS"] = "vllm_edit"
    if ranks > 1:
        os.environ["VLLM_CPU_OMP_THREADS_BIND"] = "|".join(map(str, range(ranks)))
    engine = start_engine(
        model=str(factworld.checkpoint()),
        dtype="float32",
        enforce_eager=True,
        max_model_len=1024,
        max_num_batched_tokens=8192,
        kv_cache_memory_bytes=1 << 28,
        tensor_parallel_size=ranks,
        worker_extension_cls="benchmarks.step_recorder.StepRecorder",
    )
    try:
        yield engine
    finally:
        engine.shutdown()
        del engine
        gc.collect()
