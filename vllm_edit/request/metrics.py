"""What `/metrics` says of variants, beside vLLM's own figures."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

from prometheus_client import Counter, Histogram
from starlette.types import Message, Send

_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)

REQUESTS = Counter(
    "vllm_edit_requests", "Generation requests, by variant and HTTP status", ["variant", "status"]
)
HITS = Counter(
    "vllm_edit_hits",
    "Memory edits put in front of requests, by variant and method",
    ["variant", "method"],
)
FIRST = Histogram(
    "vllm_edit_first_byte_seconds",
    "Time to the first byte of an answer's body, by variant",
    ["variant"],
    buckets=_BUCKETS,
)
WHOLE = Histogram(
    "vllm_edit_request_seconds", "Time to the end of an answer, by variant",
    ["variant"], buckets=_BUCKETS,
)  # fmt: skip


class Observation:
    """One request of a variant, as it is answered."""

    def __init__(self, variant: str) -> None:
        self._variant = variant
        self._start = time.perf_counter()
        self._first = 0.0
        self._status = 0

    def wrap(self, send: Send) -> Send:
        """A send that notes when the answer comes."""

        async def observed(message: Message) -> None:
            if message["type"] == "http.response.start":
                self._status = message["status"]
            elif not self._first and message.get("body"):
                self._first = time.perf_counter() - self._start
            await send(message)

        return observed

    @contextmanager
    def counted(self) -> Iterator[None]:
        """Around the whole of the request."""
        try:
            yield
        finally:
            REQUESTS.labels(self._variant, str(self._status or 499)).inc()
            WHOLE.labels(self._variant).observe(time.perf_counter() - self._start)
            if self._first:
                FIRST.labels(self._variant).observe(self._first)


def forget(variant: str) -> None:
    """Drop the figures of a variant that is no more."""
    for metric in (REQUESTS, HITS, FIRST, WHOLE):
        metric.remove_by_labels({"variant": variant})
