"""The administrator sees a tenant's set on every route; a stranger on none."""

from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from retriever import Pass
from tests.edit_state import edit_state, served_models
from tests.leading import leading
from tests.service.steered import Steered
from vllm_edit.engine.model_names import ModelNames
from vllm_edit.memory.router import RoutedRequest
from vllm_edit.memory.routing_options import RoutingOptions
from vllm_edit.plugin import EditPlugin
from vllm_edit.security.access import Access
from vllm_edit.security.hashed_key import HashedKey
from vllm_edit.security.tenants import Tenants
from vllm_edit.security.visibility import Views
from vllm_edit.service.commands import CreateSet

KEY, ACME = "the admin's", "acme's own"


class PassingRouter:
    """A router that no edit concerns."""

    async def route(self, request: Mapping[str, Any], options: RoutingOptions) -> RoutedRequest:
        return RoutedRequest(dict(request))

    async def preview(self, content: object, options: RoutingOptions) -> Pass:
        return Pass("empty_memory")


@pytest.fixture
async def http(tmp_path: Path) -> AsyncIterator[httpx.AsyncClient]:
    """A client of the plugin's routes, and of routes in the place of vLLM's that echo the model."""
    models = served_models()
    app = FastAPI()
    EditPlugin().attach_router(app)

    @app.post("/v1/completions")
    @app.post("/tokenize")
    async def echo(body: dict[str, Any]) -> Any:
        return {name: body.get(name) for name in ("model", "cache_salt")}

    async with leading(tmp_path / "ledger.sqlite3", Steered()) as service:
        await service.change_set(CreateSet("private", "acme"))
        names = ModelNames(models, Views(service.edit_set))
        names.serve_as_merged("private")
        app.state.edit_state = edit_state(
            service,
            Access(HashedKey(KEY), local=True),
            tenants=Tenants({"acme": HashedKey(ACME)}),
            names=names,
            memory=SimpleNamespace(empty=lambda: True, counterfactual=None),
            router=PassingRouter(),
        )
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://server") as client:
            yield client


@pytest.mark.parametrize(
    ("headers", "sees"),
    [
        ({"X-Edit-Admin-Key": KEY}, True),
        ({"Authorization": f"Bearer {KEY}"}, True),
        ({"X-Edit-Tenant-Key": ACME}, True),
        ({"Authorization": "Bearer everyone's"}, False),
        ({}, False),
    ],
)
async def test_all_routes_agree(
    http: httpx.AsyncClient, headers: dict[str, str], sees: bool
) -> None:
    http.headers.update(headers)
    for path in ("/v1/completions", "/tokenize"):
        reply = await http.post(path, json={"model": "m@private", "prompt": "x"})
        assert reply.status_code == (200 if sees else 404), path
        if sees:
            assert reply.json()["model"] == "m@private"
            assert "private" not in reply.json()["cache_salt"]
        else:
            assert reply.json()["error"]["code"] == "unknown_variant"
    listed = (await http.get("/v1/edit-sets")).json()["data"]
    assert [edit_set["name"] for edit_set in listed] == (["private"] if sees else [])
    assert (await http.get("/v1/edit-sets/private")).status_code == (200 if sees else 404)


@pytest.mark.parametrize("path", ["/v1/completions", "/tokenize"])
async def test_what_is_not_understood_is_refused_while_there_are_tenants_sets(
    http: httpx.AsyncClient, path: str
) -> None:
    for content_type in ("application/json", "Application/JSON; charset=x", "application/x+json"):
        headers = {"content-type": content_type, "X-Edit-Tenant-Key": ACME}
        body = b'{"model": "m", "prompt": "x", "y": "\\ud800"}'
        reply = await http.post(path, content=body, headers=headers)
        assert (reply.status_code, reply.json()["error"]["code"]) == (400, "unreadable_body")
    admin = {"X-Edit-Admin-Key": KEY}
    (await http.delete("/v1/edit-sets/private", headers=admin)).raise_for_status()
    reply = await http.post(path, content=body, headers={"content-type": "application/json"})
    assert reply.json()["model"] == "m"


async def test_the_administrator_routes_for_any_set(http: httpx.AsyncClient) -> None:
    body = {"text": "x", "variant": "private"}
    for headers in ({"X-Edit-Admin-Key": KEY}, {"Authorization": f"Bearer {KEY}"}):
        reply = await http.post("/v1/edits/route", json=body, headers=headers)
        assert (reply.status_code, reply.json()["variant"]) == (200, "private")
