"""Where the counterfactual model is: at a URL, or in a process of its own (`own_process`)."""

import asyncio
from dataclasses import dataclass
from typing import Any, Protocol

import httpx

from vllm_edit.domain.errors import CounterfactualFailed, Unavailable
from vllm_edit.serac.failures import failed, reported

CONNECT_SECONDS = 5.0


@dataclass(frozen=True)
class Connection:
    """A client whose base URL ends in /v1, and the model to ask for there."""

    client: httpx.AsyncClient
    model: str


class Upstream(Protocol):
    """An OpenAI-compatible server of the counterfactual model."""

    async def connect(self) -> Connection:
        """Ready to be asked.

        Raises:
            CounterfactualUnavailable, CounterfactualFailed: it is not there, or is no such server.
        """

    async def close(self) -> None:
        """Let go of it for good."""


class UrlUpstream:
    """A server of somebody's, at a URL such as http://127.0.0.1:9000/v1.

    Without `model` it is asked once which one it serves. The key goes into the requests' headers
    and nowhere else.
    """

    def __init__(self, url: str, model: str = "", key: str = "", timeout: float = 60.0) -> None:
        self._model = model
        self._timeout = timeout
        self._turn = asyncio.Lock()
        headers = {"authorization": f"Bearer {key}"} if key else {}
        self._client = httpx.AsyncClient(
            base_url=_checked(url),
            headers=headers,
            timeout=httpx.Timeout(timeout, connect=CONNECT_SECONDS),
        )

    async def connect(self) -> Connection:
        async with self._turn:
            if not self._model:
                self._model = await first_model(self._client, self._timeout)
        return Connection(self._client, self._model)

    async def close(self) -> None:
        await self._client.aclose()


async def first_model(client: httpx.AsyncClient, seconds: float) -> str:
    """The first model that a server lists in this time; raises as `Upstream.connect` does."""
    with reported():
        response = await client.get("models", timeout=seconds)
    if response.status_code != httpx.codes.OK:
        raise failed(response.status_code)
    try:
        listed: Any = response.json()
        return str(listed["data"][0]["id"])
    except (ValueError, LookupError, TypeError) as error:
        raise CounterfactualFailed(
            "The counterfactual model's server lists no model: set --edit-serac-name."
        ) from error


def _checked(url: str) -> httpx.URL:
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
