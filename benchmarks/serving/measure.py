"""One load on one arm, and the figures measured under it."""

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
from benchmarks.serving.storm import StormResult, edit_storm
from benchmarks.spread import spread
from vllm_edit import factworld

_PREFIX = "vllm:prefix_cache"
_WINDOW = 0.25
"""Length in seconds of one step of a timeline."""


@dataclass(frozen=True)
class LoadRun:
    """`count` requests, in open loop at a `rate` or in closed loop with `concurrency` in flight.

    Runs with the same `number` get the same traffic.
    """

    count: int
    rate: float
    concurrency: int | None
    number: int

    @property
    def loop(self) -> str:
        return "closed" if self.rate == CLOSED else "open"


def load_runs(plan: ServingPlan, arm: Arm, number: int) -> list[LoadRun]:
    """The loads of an arm in one round."""
    runs = [(plan.closed, CLOSED, plan.concurrency), (plan.opened, plan.rate, None)]
    if arm.swept and number == 0:
        others = [rate for rate in plan.rates if rate != plan.rate]
        runs += [(max(plan.opened // 2, 8), rate, None) for rate in others]
    return [
        LoadRun(count, rate, concurrency, number * (len(plan.rates) + 2) + place)
        for place, (count, rate, concurrency) in enumerate(runs)
    ]


async def measure(
    plan: ServingPlan, arm: Arm, run: LoadRun, url: str, questions: Sequence[str]
) -> dict[str, Any]:
    """The figures of `vllm bench serve` and those of edits, whose keys begin with `edit_`.

    `questions` are the prompts of a MeLLo arm.
    """
    load = Load(
        label=arm.name,
        url=url,
        models=arm.models,
        prompts=_prompts(arm, run, questions),
        tokenizer=str(factworld.checkpoint()),
        output_tokens=plan.output_tokens,
        seed=run.number,
        rate=run.rate,
        burstiness=plan.burstiness,
        concurrency=run.concurrency,
        extra_body=dict(arm.extra_body),
    )
    async with httpx.AsyncClient(timeout=120.0) as http:
        before = await Snapshot.take(http, url)
        name = f"{arm.name}-{run.number}"
        storm = edit_storm(arm.storm, url, name) if arm.storm else nullcontext(StormResult())
        async with storm as storm_result:
            answers = await send(load)
            # Taken inside: the end of the storm is not part of the load.
            metrics = MetricsDifference(before, await Snapshot.take(http, url))
    return {**answers.flat, **_edit_figures(arm, run, answers, metrics, storm_result)}


def _prompts(arm: Arm, run: LoadRun, questions: Sequence[str]) -> Sequence[str]:
    if arm.hops:
        return [questions[at % len(questions)] for at in range(run.count)]
    return traffic.prompts(run.count, run.number, arm.scoped, arm.in_memory)


def _edit_figures(
    arm: Arm, run: LoadRun, answers: LoadResult, metrics: MetricsDifference, storm: StormResult
) -> dict[str, Any]:
    flat, gaps = answers.flat, [b - a for s in answers.streams for a, b in s.gaps]
    routed = metrics.total("vllm_edit_routing_seconds_count")
    passed = metrics.total("vllm_edit_passes_total")
    # Prompt tokens that vLLM got beyond those sent. This is unknown in storms (probes are requests
    # too), for MeLLo (so are hops), and for SERAC (whose own model answers some requests).
    added = metrics.total("vllm:prompt_tokens_total") - answers.sent
    during = [at for at in storm.swaps if answers.span[0] <= at <= answers.span[1]]
    return {
        "edit_arm": arm.name,
        "edit_loop": run.loop,
        "edit_kind": arm.storm.kind if arm.storm else None,
        "edit_rate": arm.storm.rate if arm.storm else 0.0,
        "edit_set_size": arm.edits,
        "edit_scoped_percent": arm.scoped,
        "edit_hit_share": (routed - passed) / routed if routed else None,
        "edit_asked": storm.requested,
        "edit_refused": storm.refused,
        "edit_active": storm.active,
        "edit_failed": storm.failed,
        "edit_active_rate": storm.active / flat["duration"] if arm.storm else 0.0,
        "edit_accept_ms": spread(1e3 * s for s in storm.accepting),
        "edit_visible_ms": spread(1e3 * s for s in storm.visible),
        "edit_visible_lost": storm.unseen,
        "edit_swaps": len(during),
        "edit_pause_ms": _milliseconds(metrics.mean("vllm_edit_swap_seconds", part="pause")),
        "edit_stage_ms": _milliseconds(metrics.mean("vllm_edit_swap_seconds", part="stage")),
        "edit_compute_ms": _milliseconds(metrics.mean("vllm_edit_compute_seconds")),
        "edit_longest_gap_ms": 1e3 * max(gaps, default=0.0),
        "edit_preempted": metrics.total("vllm:num_preemptions_total"),
        "edit_recomputed_tokens": recomputed(answers.streams, flat, during),
        "edit_cache_hit_after": metrics.share(f"{_PREFIX}_hits_total", f"{_PREFIX}_queries_total"),
        "edit_route_ms": _milliseconds(metrics.mean("vllm_edit_routing_seconds")),
        "edit_encoder_ms": _milliseconds(metrics.mean("vllm_edit_encoder_seconds")),
        "edit_encoder_calls": metrics.total("vllm_edit_encoder_seconds_count"),
        "edit_classifier_ms": _milliseconds(metrics.mean("vllm_edit_classifier_seconds")),
        "edit_classifier_calls": metrics.total("vllm_edit_classifier_seconds_count"),
        "edit_queue_ms": _milliseconds(metrics.mean("vllm:request_queue_time_seconds")),
        "edit_prefill_ms": _milliseconds(metrics.mean("vllm:request_prefill_time_seconds")),
        "edit_decode_ms": _milliseconds(metrics.mean("vllm:request_decode_time_seconds")),
        "edit_added_prompt_tokens": None if arm.storm or arm.hops or added < 0 else added,
        "edit_client_lag_ms": spread(1e3 * s for s in answers.lags),
        "edit_errors": sorted({error.strip().splitlines()[-1] for error in answers.errors}),
        "edit_timeline": timeline(answers, during) if arm.storm else None,
    }


def recomputed(streams: Sequence[Stream], flat: Mapping[str, Any], swaps: Sequence[float]) -> float:
    """Tokens that are computed again because a swap clears the KV caches of running streams.

    An estimate: it takes the mean prompt length for every stream.
    """
    prompt = flat["total_input_tokens"] / max(1, flat["completed"])
    tokens = 0.0
    for at in swaps:
        for stream in streams:
            if stream.sent_at <= at <= stream.pieces[-1]:
                tokens += prompt + sum(piece <= at for piece in stream.pieces)
    return tokens


def timeline(answers: LoadResult, swaps: Sequence[float]) -> dict[str, Any]:
    """Tokens per second and the longest gap in each window, and the times of swaps."""
    begin, end = answers.span
    windows = int((end - begin) / _WINDOW) + 1
    tokens, longest = [0] * windows, [0.0] * windows
    for stream in answers.streams:
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
