"""Load from the code of `vllm bench serve`, so that figures are comparable with published ones."""

import asyncio
import contextlib
import io
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from vllm_edit.vllm_interface.benchmarking import (
    benchmark_completions,
    freeze_heap,
    load_tokenizer,
    sample_request,
)

CLOSED = float("inf")
PERCENTILES = (50.0, 90.0, 99.0)
_DETAILS = (
    "input_lens", "output_lens", "ttfts", "itls", "latencies", "start_times", "queue_times",
    "generated_texts", "errors",
)  # fmt: skip
"""What `vllm bench serve` leaves out of its result without `--save-detailed`."""
_BEAT = 0.01
"""Seconds between two measurements of this process's lag."""


@dataclass(frozen=True)
class Load:
    """Requests to send: open loop with a `rate`, closed loop with a `concurrency`.

    The requests go to `models` in turn. `label` names them in the result.
    """

    label: str
    url: str
    models: tuple[str, ...]
    prompts: Sequence[str]
    tokenizer: str
    output_tokens: int
    seed: int
    rate: float = CLOSED
    burstiness: float = 1.0
    concurrency: int | None = None
    extra_body: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Stream:
    """One streamed answer: times of the request and of each piece (time.perf_counter)."""

    sent_at: float
    pieces: tuple[float, ...]

    @property
    def gaps(self) -> list[tuple[float, float]]:
        """The waits between pieces, each as begin and end."""
        return list(zip(self.pieces, self.pieces[1:], strict=False))


@dataclass(frozen=True)
class LoadResult:
    """`flat` has the keys of `vllm bench serve --save-result`; `span` is when it ran.

    `sent` is the number of prompt tokens sent. `lags` are the seconds by which this process woke
    up too late, which delays its measurements by the same time.
    """

    flat: dict[str, Any]
    sent: int
    lags: tuple[float, ...]
    streams: tuple[Stream, ...]
    errors: tuple[str, ...]
    span: tuple[float, float]


async def send(load: Load) -> LoadResult:
    """Send the load to its server and measure the answers."""
    random.seed(load.seed)
    # vLLM draws the arrival times from these.
    np.random.seed(load.seed)
    requests, lags = _requests(load), list[float]()
    # A full collection stops this process for a third of a second.
    freeze_heap()
    watch = asyncio.create_task(_watch(lags))
    begun = time.perf_counter()
    with contextlib.redirect_stdout(io.StringIO()):
        result = await benchmark_completions(
            endpoint_type="openai",
            api_url=f"{load.url}/v1/completions",
            base_url=load.url,
            model_id=load.models[0],
            model_name=load.models[0],
            tokenizer=_tokenizer(load.tokenizer),
            input_requests=requests,
            logprobs=None,
            request_rate=load.rate,
            burstiness=load.burstiness,
            disable_tqdm=True,
            num_warmups=0,
            profile=False,
            selected_percentile_metrics=["ttft", "tpot", "itl", "e2el"],
            selected_percentiles=list(PERCENTILES),
            ignore_eos=True,
            goodput_config_dict={},
            max_concurrency=load.concurrency,
            lora_modules=load.models,
            lora_assignment="round-robin",
            extra_headers=None,
            extra_body={"temperature": 0.0, **load.extra_body},
            ready_check_timeout_sec=0,
        )
    span = (begun, time.perf_counter())
    watch.cancel()
    sent = sum(request.prompt_len for request in requests)
    errors = tuple(filter(None, result["errors"]))
    return LoadResult(_flat(load, result), sent, tuple(lags), _streams(result), errors, span)


async def _watch(lags: list[float]) -> None:
    while True:
        due = time.perf_counter() + _BEAT
        await asyncio.sleep(_BEAT)
        lags.append(time.perf_counter() - due)


def _flat(load: Load, result: dict[str, Any]) -> dict[str, Any]:
    return {
        "date": time.strftime("%Y%m%d-%H%M%S"),
        "backend": "openai",
        "label": load.label,
        "model_id": load.models[0],
        # Only the name: a result is read on other machines.
        "tokenizer_id": Path(load.tokenizer).name,
        "num_prompts": len(load.prompts),
        "request_rate": "inf" if load.rate == CLOSED else load.rate,
        "burstiness": load.burstiness,
        "max_concurrency": load.concurrency,
        **{name: value for name, value in result.items() if name not in _DETAILS},
    }


def _streams(result: dict[str, Any]) -> tuple[Stream, ...]:
    """The streams of completed requests."""
    parts = (result[name] for name in ("start_times", "ttfts", "itls", "errors"))
    return tuple(
        Stream(start, tuple(np.cumsum([start + ttft, *itl]).tolist()))
        for start, ttft, itl, error in zip(*parts, strict=True)
        if not error and ttft
    )


def _requests(load: Load) -> list[Any]:
    encode = _tokenizer(load.tokenizer)
    return [
        sample_request(prompt, len(encode(prompt).input_ids), load.output_tokens)
        for prompt in load.prompts
    ]


@cache
def _tokenizer(name: str) -> Any:
    return load_tokenizer(name)
