"""Figures about variants on `/metrics`, beside vLLM's own."""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from prometheus_client import Counter, Histogram
from starlette.types import Message, Send

from retriever.ike.prompt import text_of
from vllm_edit.memory.router import RoutedRequest
from vllm_edit.processes.figures import forget

_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)

REQUESTS = Counter(
    "vllm_edit_requests", "Generation requests, by variant and HTTP status", ["variant", "status"]
)
HITS = Counter(
    "vllm_edit_hits",
    "Memory edits put in front of requests, by variant and method",
    ["variant", "method"],
)
PASSES = Counter(
    "vllm_edit_passes",
    "Prompts and chats that no memory edit concerns, by variant and reason; where no subject is "
    "named, neither encoder nor classifier is asked",
    ["variant", "reason"],
)
ADDED = Counter(
    "vllm_edit_added_prompt_characters",
    "Characters put in front of requests, by variant",
    ["variant"],
)
ROUTING = Histogram(
    "vllm_edit_routing_seconds",
    "Time to see which memory edits concern a request, hops included",
    buckets=(0.0001, 0.00025, 0.0005, 0.001, 0.0025, *_BUCKETS),
)
FIRST_BYTE = Histogram(
    "vllm_edit_first_byte_seconds",
    "Time to the first byte of an answer's body, by variant",
    ["variant"],
    buckets=_BUCKETS,
)
WHOLE = Histogram(
    "vllm_edit_request_seconds", "Time to the end of an answer, by variant",
    ["variant"], buckets=_BUCKETS,
)  # fmt: skip


class RequestTimer:
    """The status and the times of one request of a variant, from when it is made.

    ``label`` returns what figures call the variant at the time: it may end before the request.
    """

    def __init__(self, label: Callable[[], str]) -> None:
        self._label = label
        self._start = time.perf_counter()
        self._first_byte = 0.0
        self._status = 0

    def wrap(self, send: Send) -> Send:
        """A send that notes when the answer comes."""

        async def send_and_note(message: Message) -> None:
            if message["type"] == "http.response.start":
                self._status = message["status"]
            elif not self._first_byte and message.get("body"):
                self._first_byte = time.perf_counter() - self._start
            await send(message)

        return send_and_note

    @contextmanager
    def recorded(self) -> Iterator[None]:
        """Record the request when the block ends; status 499 if no answer began."""
        try:
            yield
        finally:
            variant = self._label()
            REQUESTS.labels(variant, str(self._status or 499)).inc()
            WHOLE.labels(variant).observe(time.perf_counter() - self._start)
            if self._first_byte:
                FIRST_BYTE.labels(variant).observe(self._first_byte)


def count_routing(variant: str, request: Mapping[str, Any], routed: RoutedRequest) -> None:
    """Count what memory did with a request of what figures call ``variant``."""
    for decision in routed.used:
        HITS.labels(variant, decision.method).inc(len(decision.edit_ids))
    for reason in [routed.unrouted] if routed.unrouted else routed.pass_reasons:
        PASSES.labels(variant, reason).inc()
    if routed.used:
        ADDED.labels(variant).inc(max(0, _length(routed.request) - _length(request)))


def _length(request: Mapping[str, Any]) -> int:
    """Characters of the prompt, the prompts or the messages."""
    if (messages := request.get("messages")) is not None:
        return sum(len(text_of(message)) for message in messages)
    prompt = request.get("prompt")
    return len(prompt) if isinstance(prompt, str) else sum(map(len, prompt or ()))


def forget_variant(variant: str) -> None:
    """Drop the figures of a variant that no longer exists."""
    for metric in (REQUESTS, HITS, PASSES, ADDED, FIRST_BYTE, WHOLE):
        forget(metric, {"variant": variant})
