"""HTTP to one server: errors as this package's own, and patience with a busy server."""

import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import httpx

from vllm_edit.domain.errors import EditError, InvalidEdit, Unavailable
from vllm_edit.security.access import ADMIN_HEADER

TIMEOUT = 3600.0
"""Seconds: a batch of a thousand weight edits answers when it is active."""

METHODS_HEADER = "x-edit-method"

_PATIENCE = 120.0
_IDLE = 1.0
"""Seconds for which a connection is kept: vLLM closes one after five, perhaps as it is used."""
_ASKING = frozenset({"/v1/completions", "/tokenize"})
_LOST = 3
"""So often a question is asked again whose connection was closed; it changes nothing."""
_BUSY = frozenset({httpx.codes.TOO_MANY_REQUESTS, httpx.codes.SERVICE_UNAVAILABLE})
_REFUSED = frozenset({httpx.codes.BAD_REQUEST, httpx.codes.UNPROCESSABLE_ENTITY})


@dataclass(frozen=True)
class Latency:
    """Seconds until the first token of a streamed answer, and until its end."""

    first: float
    whole: float


class ServerClient:
    """A context manager. `admin_key` is what the server wants from those who change edits.

    vLLM's own key is taken from VLLM_API_KEY. Every method raises EditError with what the server
    answered (InvalidEdit if it refuses the request), or Unavailable if it does not answer.
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
            limits=httpx.Limits(keepalive_expiry=_IDLE),
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

    def complete(self, body: Mapping[str, Any]) -> tuple[dict[str, Any], str]:
        """A completion, and the methods that shaped it."""
        reply = self._send("POST", "/v1/completions", body)
        return self._checked(reply), reply.headers.get(METHODS_HEADER, "")

    def wait(self, body: Mapping[str, Any]) -> Latency:
        """How long a completion takes that is streamed."""
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
            raise self._silent(error) from error
        end = time.perf_counter()
        return Latency((first or end) - start, end - start)

    def _send(self, verb: str, path: str, body: Mapping[str, Any] | None = None) -> httpx.Response:
        give_up = time.monotonic() + _PATIENCE
        while True:
            reply = self._reply(verb, path, body, _LOST if path in _ASKING else 0)
            wait = reply.headers.get("retry-after", "")
            if reply.status_code not in _BUSY or not wait or time.monotonic() > give_up:
                return reply
            time.sleep(float(wait))

    def _reply(
        self, verb: str, path: str, body: Mapping[str, Any] | None, again: int
    ) -> httpx.Response:
        try:
            return self._http.request(verb, path, json=body)
        except httpx.TransportError as error:
            if again and isinstance(error, httpx.RemoteProtocolError):
                return self._reply(verb, path, body, again - 1)
            raise self._silent(error) from error

    def _silent(self, error: httpx.TransportError) -> Unavailable:
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
