"""An HTTP client of one server. It raises `EditError` and waits for a busy server."""

import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import httpx

from vllm_edit.domain.errors import EditError, InvalidEdit, Unavailable
from vllm_edit.security.access import ADMIN_HEADER

TIMEOUT = 3600.0
"""Seconds. The reply to a batch of a thousand weight edits comes when all are active."""

METHODS_HEADER = "x-edit-method"

_BUSY_SECONDS = 120.0
"""How long a request to a busy server is repeated."""
_KEEPALIVE_SECONDS = 1.0
"""vLLM closes an idle connection after five seconds, possibly while a new request is sent."""
_IDEMPOTENT = frozenset({"/v1/completions", "/v1/chat/completions", "/tokenize"})
_POLL_SECONDS = 0.1
_WAITING = "vllm_edit_told_waiting "
"""The metric of edits that the server has yet to ask about in the background."""
_RETRIES = 3
"""How often an idempotent request is repeated after the server closed its connection."""
_BUSY = frozenset({httpx.codes.TOO_MANY_REQUESTS, httpx.codes.SERVICE_UNAVAILABLE})
_REFUSED = frozenset({httpx.codes.BAD_REQUEST, httpx.codes.UNPROCESSABLE_ENTITY})


@dataclass(frozen=True)
class Latency:
    """Seconds until the first token and until the end of a streamed answer."""

    first: float
    whole: float


class ServerClient:
    """A context manager. `admin_key` is the server's key for changing edits.

    vLLM's own key is read from VLLM_API_KEY. Every method raises EditError with the server's error
    (InvalidEdit if it refuses the request), or Unavailable if the server does not answer.
    """

    def __init__(self, url: str, admin_key: str = "") -> None:
        self.url = url.rstrip("/")
        headers = {ADMIN_HEADER: admin_key} if admin_key else {}
        if key := os.environ.get("VLLM_API_KEY"):
            headers["Authorization"] = f"Bearer {key}"
        self._http = httpx.Client(
            base_url=self.url,
            headers=headers,
            timeout=TIMEOUT,
            limits=httpx.Limits(keepalive_expiry=_KEEPALIVE_SECONDS),
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._http.close()

    def get(self, path: str) -> dict[str, Any]:
        return self._checked(self._send("GET", path))

    def post(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        return self._checked(self._send("POST", path, body))

    def patch(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        return self._checked(self._send("PATCH", path, body))

    def delete(self, path: str) -> dict[str, Any]:
        return self._checked(self._send("DELETE", path))

    def wait_until_alone(self) -> None:
        """Wait until the server asks itself about no edits any more, beside what it is asked."""
        while _waiting_edits(self._send("GET", "/metrics").text):
            time.sleep(_POLL_SECONDS)

    def complete(self, body: Mapping[str, Any]) -> tuple[dict[str, Any], str]:
        """A completion, and the methods that shaped it."""
        reply = self._send("POST", "/v1/completions", body)
        return self._checked(reply), reply.headers.get(METHODS_HEADER, "")

    def wait(self, body: Mapping[str, Any]) -> Latency:
        """The latency of a streamed completion."""
        content = {**body, "stream": True}
        start, first = time.perf_counter(), None
        try:
            with self._http.stream("POST", "/v1/completions", json=content) as reply:
                if not reply.is_success:
                    reply.read()
                    self._checked(reply)
                for line in reply.iter_lines():
                    if line and first is None:
                        first = time.perf_counter()
        except httpx.TransportError as error:
            raise self._unavailable(error) from error
        end = time.perf_counter()
        return Latency((first or end) - start, end - start)

    def _send(self, verb: str, path: str, body: Mapping[str, Any] | None = None) -> httpx.Response:
        deadline = time.monotonic() + _BUSY_SECONDS
        while True:
            reply = self._reply(verb, path, body, _RETRIES if path in _IDEMPOTENT else 0)
            wait = reply.headers.get("retry-after", "")
            if reply.status_code not in _BUSY or not wait or time.monotonic() > deadline:
                return reply
            time.sleep(float(wait))

    def _reply(
        self, verb: str, path: str, body: Mapping[str, Any] | None, retries: int
    ) -> httpx.Response:
        try:
            return self._http.request(verb, path, json=body)
        except httpx.TransportError as error:
            if retries and isinstance(error, httpx.RemoteProtocolError):
                return self._reply(verb, path, body, retries - 1)
            raise self._unavailable(error) from error

    def _unavailable(self, error: httpx.TransportError) -> Unavailable:
        return Unavailable(f"The server at {self.url} does not answer: {error}.")

    def _checked(self, reply: httpx.Response) -> dict[str, Any]:
        try:
            content = reply.json()
        except ValueError:
            content = None
        if reply.is_success and isinstance(content, dict):
            return content
        error = content.get("error") if isinstance(content, dict) else None
        if not isinstance(error, dict):
            message = f"{self.url} answered {reply.status_code}; is it a vllm-edit server?"
            raise Unavailable(message)
        kind = InvalidEdit if reply.status_code in _REFUSED else EditError
        raise kind(str(error.get("message")), code=str(error.get("code")))


def _waiting_edits(metrics: str) -> float:
    lines = (line for line in metrics.splitlines() if line.startswith(_WAITING))
    return sum(float(line.removeprefix(_WAITING)) for line in lines)
