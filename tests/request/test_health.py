"""What an orchestrator is told of a server that cannot serve."""

from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from tests.edit_state import edit_state
from vllm_edit.api.attach import attach
from vllm_edit.domain.errors import StoreReplaced
from vllm_edit.request.health import HealthMiddleware


async def health(
    stopped: str | None = None, astray: bool = False, replaced: StoreReplaced | None = None
) -> dict[str, tuple[int, Any]]:
    app = FastAPI()
    attach(app)
    app.add_middleware(HealthMiddleware)
    app.add_api_route("/health", lambda: None)
    service: Any = SimpleNamespace(astray=astray, replaced=replaced, edit_set=None)
    app.state.edit_state = edit_state(service, served=SimpleNamespace(stopped=stopped))
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://here") as client:
        replies = {path: await client.get(path) for path in ("/health", "/edits/ready")}
    return {
        path: (reply.status_code, reply.json()["error"]["code"] if reply.is_error else None)
        for path, reply in replies.items()
    }


async def test_a_server_that_serves_is_healthy_and_ready() -> None:
    assert await health() == {"/health": (200, None), "/edits/ready": (200, None)}


async def test_a_server_whose_engine_is_stopped_is_neither() -> None:
    refused = (503, "serving_stopped")
    assert await health("secret details") == {"/health": refused, "/edits/ready": refused}


async def test_a_server_whose_store_was_replaced_is_neither() -> None:
    refused = (503, "store_replaced")
    found = await health(replaced=StoreReplaced("secret details"))
    assert found == {"/health": refused, "/edits/ready": refused}


async def test_a_server_that_may_serve_something_else_is_not_ready() -> None:
    found = await health(astray=True)
    assert found == {"/health": (200, None), "/edits/ready": (503, "astray")}


@pytest.mark.parametrize("path", ["/health", "/edits/ready"])
async def test_a_server_without_an_engine_says_so(path: str) -> None:
    app = FastAPI()
    attach(app)
    app.add_middleware(HealthMiddleware)
    app.add_api_route("/health", lambda: None)
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://here") as client:
        status = (await client.get(path)).status_code
    assert status == (200 if path == "/health" else 503)
