"""The server of the counterfactual model: at a URL, or in a child process (`child_server`)."""

import asyncio
from dataclasses import dataclass
from typing import Any, Protocol

import httpx

from vllm_edit.domain.errors import CounterfactualFailed, Unavailable
from vllm_edit.serac.errors import error_for_status, translated_errors

CONNECT_SECONDS = 5.0


@dataclass(frozen=True)
class Connection:
    """A client whose base URL ends in /v1, and the model to ask for there."""

    client: httpx.AsyncClient
    model: str


class ModelServer(Protocol):
    """An OpenAI-compatible server of the counterfactual model."""

    async def connect(self) -> Connection:
        """Connect to the server, and start it if need be.

        Raises:
            CounterfactualUnavailable: it cannot be reached or does not start.
            CounterfactualFailed: it is not an OpenAI-compatible server.
        """

    async def close(self) -> None:
        """Disconnect for good."""


class RemoteServer:
    """A server at a URL such as http://127.0.0.1:9000/v1.

    Without `model`, the first connection asks which model it serves. The key goes into the headers
    of requests and nowhere else.
    """

    def __init__(self, url: str, model: str = "", key: str = "", timeout: float = 60.0) -> None:
        self._model = model
        self._timeout = timeout
        self._connecting = asyncio.Lock()
        headers = {"authorization": f"Bearer {key}"} if key else {}
        self._client = httpx.AsyncClient(
            base_url=_check_url(url),
            headers=headers,
            timeout=httpx.Timeout(timeout, connect=CONNECT_SECONDS),
        )

    async def connect(self) -> Connection:
        async with self._connecting:
            if not self._model:
                self._model = await first_model(self._client, self._timeout)
        return Connection(self._client, self._model)

    async def close(self) -> None:
        await self._client.aclose()


async def first_model(client: httpx.AsyncClient, seconds: float) -> str:
    """The first model that a server lists in this time; raises as `ModelServer.connect` does."""
    with translated_errors():
        response = await client.get("models", timeout=seconds)
    if response.status_code != httpx.codes.OK:
        raise error_for_status(response.status_code)
    try:
        body: Any = response.json()
        return str(body["data"][0]["id"])
    except (ValueError, LookupError, TypeError) as error:
        raise CounterfactualFailed(
            "The counterfactual model's server lists no model: set --edit-serac-name."
        ) from error


def _check_url(url: str) -> httpx.URL:
    try:
        parsed = httpx.URL(url)
    except httpx.InvalidURL as error:
        raise Unavailable(f"--edit-serac-url is no URL: {error}") from error
    if parsed.scheme not in ("http", "https") or not parsed.host:
        raise Unavailable("--edit-serac-url must be as http://HOST:PORT/v1.")
    if parsed.userinfo:
        # It would show in logs.
        raise Unavailable("--edit-serac-url must hold no key: use --edit-serac-key-file.")
    return parsed
