"""One arm, once: the load that it gets and the figures that come of it."""

import statistics
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import httpx

from benchmarks.serving import traffic
from benchmarks.serving.arms import Arm
from benchmarks.serving.load import CLOSED, Load, LoadResult, Stream, send
from benchmarks.serving.metrics import MetricsDifference, Snapshot
from benchmarks.serving.plan import ServingPlan
from benchmarks.serving.storm import StormResult, storm_blows
from vllm_edit import factworld

_PREFIX = "vllm:prefix_cache"
_WINDOW = 0.25
"""Seconds of one point of a timeline."""


@dataclass(frozen=True)
class LoadRun:
    """One load for an arm: so many requests at a rate, or with so many in flight.

    ``number`` is that of the run: arms of one number get the same traffic.
    """

    count: int
    rate: float
    concurrency: int | None
    number: int

    @property
    def loop(self) -> str:
        return "closed" if self.rate == CLOSED else "open"


def load_runs(plan: ServingPlan, arm: Arm, number: int) -> list[LoadRun]:
    """What an arm is asked in one round."""
    runs = [(plan.closed, CLOSED, plan.concurrency), (plan.opened, plan.rate, None)]
    if arm.swept and number == 0:
        others = [rate for rate in plan.rates if rate != plan.rate]
        runs += [(max(plan.opened // 2, 8), rate, None) for rate in others]
    return [
        LoadRun(count, rate, concurrency, number * (len(plan.rates) + 2) + place)
        for place, (count, rate, concurrency) in enumerate(runs)
    ]


async def measure(
    plan: ServingPlan, arm: Arm, ask: LoadRun, url: str, questions: Sequence[str]
) -> dict[str, Any]:
    """The keys of `vllm bench serve`, and those of edits, which begin with `edit_`.

    ``questions`` are what MeLLo is asked.
    """
    load = Load(
        label=arm.name,
        url=url,
        models=arm.models,
        prompts=_prompts(arm, ask, questions),
        tokenizer=str(factworld.checkpoint()),
        output_tokens=plan.output_tokens,
        seed=ask.number,
        rate=ask.rate,
        burstiness=plan.burstiness,
        concurrency=ask.concurrency,
        extra_body=dict(arm.extra_body),
    )
    async with httpx.AsyncClient(timeout=120.0) as http:
        before = await Snapshot.take(http, url)
        name = f"{arm.name}-{ask.number}"
        storm = storm_blows(arm.storm, url, name) if arm.storm else nullcontext(StormResult())
        async with storm as weather:
            answered = await send(load)
            # What comes after the load is not part of it.
            change = MetricsDifference(before, await Snapshot.take(http, url))
    told = _told(arm, ask, answered, change, weather)
    return {**answered.flat, **told}


def _prompts(arm: Arm, ask: LoadRun, questions: Sequence[str]) -> Sequence[str]:
    if arm.hops:
        return [questions[at % len(questions)] for at in range(ask.count)]
    return traffic.prompts(ask.count, ask.number, arm.scoped, arm.in_memory)


def _told(
    arm: Arm, ask: LoadRun, answered: LoadResult, change: MetricsDifference, weather: StormResult
) -> dict[str, Any]:
    flat, gaps = answered.flat, [b - a for s in answered.streams for a, b in s.gaps]
    routed = change.total("vllm_edit_routing_seconds_count")
    passed = change.total("vllm_edit_passes_total")
    # What vLLM got beyond what was sent. A storm's probes and MeLLo's hops are not told apart, and
    # what SERAC's model answers does not get there.
    added = change.total("vllm:prompt_tokens_total") - answered.sent
    during = [at for at in weather.swaps if answered.span[0] <= at <= answered.span[1]]
    return {
        "edit_arm": arm.name,
        "edit_loop": ask.loop,
        "edit_kind": arm.storm.kind if arm.storm else None,
        "edit_rate": arm.storm.rate if arm.storm else 0.0,
        "edit_set_size": arm.edits,
        "edit_scoped_percent": arm.scoped,
        "edit_hit_share": (routed - passed) / routed if routed else None,
        "edit_asked": weather.asked,
        "edit_refused": weather.refused,
        "edit_active": weather.active,
        "edit_failed": weather.failed,
        "edit_active_rate": weather.active / flat["duration"] if arm.storm else 0.0,
        "edit_accept_ms": spread(1e3 * s for s in weather.accepting),
        "edit_visible_ms": spread(1e3 * s for s in weather.visible),
        "edit_visible_lost": weather.unseen,
        "edit_swaps": len(during),
        "edit_pause_ms": _milliseconds(change.mean("vllm_edit_swap_seconds", part="pause")),
        "edit_stage_ms": _milliseconds(change.mean("vllm_edit_swap_seconds", part="stage")),
        "edit_compute_ms": _milliseconds(change.mean("vllm_edit_compute_seconds")),
        "edit_longest_gap_ms": 1e3 * max(gaps, default=0.0),
        "edit_preempted": change.total("vllm:num_preemptions_total"),
        "edit_recomputed_tokens": recomputed(answered.streams, flat, during),
        "edit_cache_hit_after": change.share(f"{_PREFIX}_hits_total", f"{_PREFIX}_queries_total"),
        "edit_route_ms": _milliseconds(change.mean("vllm_edit_routing_seconds")),
        "edit_encoder_ms": _milliseconds(change.mean("vllm_edit_encoder_seconds")),
        "edit_encoder_calls": change.total("vllm_edit_encoder_seconds_count"),
        "edit_classifier_ms": _milliseconds(change.mean("vllm_edit_classifier_seconds")),
        "edit_classifier_calls": change.total("vllm_edit_classifier_seconds_count"),
        "edit_queue_ms": _milliseconds(change.mean("vllm:request_queue_time_seconds")),
        "edit_prefill_ms": _milliseconds(change.mean("vllm:request_prefill_time_seconds")),
        "edit_decode_ms": _milliseconds(change.mean("vllm:request_decode_time_seconds")),
        "edit_added_prompt_tokens": None if arm.storm or arm.hops or added < 0 else added,
        "edit_client_lag_ms": spread(1e3 * s for s in answered.lags),
        "edit_errors": sorted({error.strip().splitlines()[-1] for error in answered.errors}),
        "edit_timeline": timeline(answered, during) if arm.storm else None,
    }


def spread(values: Any) -> dict[str, float] | None:
    """Median and extremes; None of nothing."""
    found = sorted(values)
    if not found:
        return None
    return {"median": statistics.median(found), "min": found[0], "max": found[-1]}


def recomputed(streams: Sequence[Stream], flat: Mapping[str, Any], swaps: Sequence[float]) -> float:
    """Tokens that running streams had behind them when the engine swapped: a swap clears every
    KV cache, and they are computed again. An estimate, as streams differ in length."""
    prompt = flat["total_input_tokens"] / max(1, flat["completed"])
    found = 0.0
    for at in swaps:
        for stream in streams:
            if stream.asked <= at <= stream.pieces[-1]:
                found += prompt + sum(piece <= at for piece in stream.pieces)
    return found


def timeline(answered: LoadResult, swaps: Sequence[float]) -> dict[str, Any]:
    """Tokens a second and the longest gap, window by window, and when the engine swapped."""
    begin, end = answered.span
    windows = int((end - begin) / _WINDOW) + 1
    tokens, longest = [0] * windows, [0.0] * windows
    for stream in answered.streams:
        for piece in stream.pieces:
            tokens[int((piece - begin) / _WINDOW)] += 1
        for start, stop in stream.gaps:
            place = int((stop - begin) / _WINDOW)
            longest[place] = max(longest[place], 1e3 * (stop - start))
    return {
        "window_seconds": _WINDOW,
        "tokens_per_second": [round(count / _WINDOW, 1) for count in tokens],
        "longest_gap_ms": [round(gap, 2) for gap in longest],
        "swaps": [round(at - begin, 3) for at in swaps],
    }


def _milliseconds(seconds: float | None) -> float | None:
    return None if seconds is None else 1e3 * seconds
