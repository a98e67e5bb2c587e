"""Who may change edits, asked of the routes themselves, behind vLLM's own key."""

import re
from argparse import Namespace
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute
from starlette.routing import BaseRoute
from vllm.entrypoints.serve.middleware.authenticate import AuthenticationMiddleware

from tests.edit_state import edit_state
from tests.leading import leading
from tests.service.steered import Steered, request
from vllm_edit.api.admission import check_admission
from vllm_edit.domain.edit import EditRequest
from vllm_edit.plugin import EditPlugin, access_of
from vllm_edit.security.access import ADMIN_HEADER, Access
from vllm_edit.security.hashed_key import HashedKey
from vllm_edit.settings import Settings

KEY, API_KEY = "the admin's", "everyone's"
LOCAL, REMOTE = "127.0.0.1", "192.0.2.7"
SAFE = {"GET", "HEAD", "OPTIONS"}


def body(edit: EditRequest) -> dict[str, Any]:
    return {
        "method": edit.method,
        "prompt": edit.prompt,
        "subject": edit.subject,
        "target_new": edit.target_new,
    }


@asynccontextmanager
async def client(
    folder: Path, access: Access | None, rate: float = 0.0, api_key: str | None = None
) -> AsyncIterator[httpx.AsyncClient]:
    """A client of the plugin's routes over a service on a real ledger, without an engine."""
    app = FastAPI()
    EditPlugin().attach_router(app)
    if api_key:
        app.add_middleware(AuthenticationMiddleware, tokens=[api_key])
    async with leading(folder / "ledger.sqlite3", Steered()) as service:
        if access is not None:
            app.state.edit_state = edit_state(service, access, rate)
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://server") as opened:
            yield opened


async def outcomes(http: httpx.AsyncClient, headers: dict[str, str]) -> list[tuple[int, Any]]:
    """Status and code of each changing request, made with these headers."""
    posted = await http.post("/v1/edits", json=body(request("capital")), headers=headers)
    deleted = await http.delete("/v1/edits/edit-none", headers=headers)
    replies = (posted, deleted)
    return [(r.status_code, (r.json()["error"] or {}).get("code")) for r in replies]


def files(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*"))


ADMITTED = [(202, None), (404, "unknown_edit")]


@pytest.mark.parametrize("local", [True, False])
@pytest.mark.parametrize(
    ("headers", "admitted"),
    [
        ({ADMIN_HEADER: KEY}, True),
        ({ADMIN_HEADER.lower(): KEY}, True),
        ({"Authorization": f"Bearer {KEY}"}, True),
        ({ADMIN_HEADER: KEY, "Authorization": "Bearer another"}, True),
        ({}, False),
        ({ADMIN_HEADER: ""}, False),
        ({ADMIN_HEADER: "wrong"}, False),
        ({ADMIN_HEADER: KEY[:-1]}, False),
        ({ADMIN_HEADER: str(HashedKey(KEY))}, False),
        ({ADMIN_HEADER: "wrong", "Authorization": f"Bearer {KEY}"}, False),
        ({"Authorization": f"Basic {KEY}"}, False),
        ({"Authorization": "Bearer "}, False),
        ({"Authorization": "Bearer \xe9"}, False),
    ],
)
async def test_a_change_needs_the_key(
    tmp_path: Path, local: bool, headers: dict[str, str], admitted: bool
) -> None:
    async with client(tmp_path, Access(HashedKey(KEY), local)) as http:
        raw: Any = [(k.encode(), v.encode("latin-1")) for k, v in headers.items()]
        refused = [(401, "admin_key_required")] * 2
        assert await outcomes(http, raw) == (ADMITTED if admitted else refused)
        assert (await http.get("/v1/edits")).status_code == httpx.codes.OK
        assert len((await http.get("/v1/edits")).json()["data"]) == int(admitted)


async def test_a_refusal_names_the_scheme_and_reads_no_body(tmp_path: Path) -> None:
    async def endless() -> AsyncIterator[bytes]:
        raise AssertionError("the body was asked for")
        yield b""

    async with client(tmp_path, Access(HashedKey(KEY), local=True)) as http:
        reply = await http.post("/v1/edits", content=endless())
    assert reply.headers["www-authenticate"] == "Bearer"
    assert ADMIN_HEADER in reply.json()["error"]["message"]


async def test_without_a_key_a_local_server_takes_changes(tmp_path: Path) -> None:
    async with client(tmp_path, Access(HashedKey(), local=True)) as http:
        assert await outcomes(http, {}) == ADMITTED
        foreign = await outcomes(http, {"Origin": "https://evil.example"})
        assert foreign == [(403, "foreign_origin")] * 2


async def test_without_a_key_a_proxy_is_not_this_machine(tmp_path: Path) -> None:
    for name in ("X-Forwarded-For", "Forwarded", "X-Real-IP", "Via"):
        async with client(tmp_path, Access(HashedKey(), local=True)) as http:
            refused = [(403, "forwarded_request")] * 2
            assert await outcomes(http, {name: "127.0.0.1"}) == refused
        async with client(tmp_path, Access(HashedKey(KEY), local=True)) as http:
            assert (await outcomes(http, {name: "x", ADMIN_HEADER: KEY}))[1] == ADMITTED[1]


def test_tenants_need_an_admin_key() -> None:
    local = Namespace(host="127.0.0.1", uds=None)
    tenants = Settings(tenant_keys="tenants.yaml")
    assert access_of(Settings(), local).open
    assert not access_of(tenants, local).open
    assert not access_of(tenants, Namespace(host=None, uds="/run/socket")).open


async def test_without_a_key_another_server_takes_none_and_shows_all(tmp_path: Path) -> None:
    async with client(tmp_path, Access(HashedKey(), local=False)) as http:
        assert await outcomes(http, {ADMIN_HEADER: KEY}) == [(403, "admin_key_not_set")] * 2
        assert (await http.get("/v1/edits")).json()["data"] == []


async def test_a_server_without_an_engine_takes_none(tmp_path: Path) -> None:
    async with client(tmp_path, None) as http:
        assert await outcomes(http, {ADMIN_HEADER: KEY}) == [(503, "unavailable")] * 2
        assert (await http.get("/v1/edits")).status_code == httpx.codes.SERVICE_UNAVAILABLE


async def test_both_keys_are_needed_where_vllm_has_one_too(tmp_path: Path) -> None:
    api = {"Authorization": f"Bearer {API_KEY}"}
    async with client(tmp_path, Access(HashedKey(KEY), local=False), api_key=API_KEY) as http:
        assert await outcomes(http, {**api, ADMIN_HEADER: KEY}) == ADMITTED
        assert await outcomes(http, api) == [(401, "admin_key_required")] * 2
        assert (await http.get("/v1/edits", headers=api)).status_code == httpx.codes.OK
        for headers in ({ADMIN_HEADER: KEY}, {"Authorization": f"Bearer {KEY}"}):
            reply = await http.post("/v1/edits", json=body(request("river")), headers=headers)
            assert reply.status_code == httpx.codes.UNAUTHORIZED


async def test_a_client_that_asks_too_often_is_told_when_to_go_on(tmp_path: Path) -> None:
    async with client(tmp_path, Access(HashedKey(KEY), local=True), rate=0.1) as http:
        assert await outcomes(http, {ADMIN_HEADER: "wrong"}) == [(401, "admin_key_required")] * 2
        first, second = await outcomes(http, {ADMIN_HEADER: KEY})
        assert (first, second) == (ADMITTED[0], (429, "rate_limited"))
        reply = await http.delete("/v1/edits/edit-none", headers={ADMIN_HEADER: KEY})
        assert 0 < int(reply.headers["retry-after"]) <= 10
        assert (await http.get("/v1/edits")).status_code == httpx.codes.OK


async def test_an_id_is_no_path(tmp_path: Path) -> None:
    """Ids are made by the server, and what a client sends is only looked up."""
    async with client(tmp_path, Access(HashedKey(), local=True)) as http:
        reply = await http.post("/v1/edits", json=body(request("capital", method="batch")))
        assert re.fullmatch("edit-[0-9a-f]{16}", reply.json()["id"])
        assert re.fullmatch("batch-[0-9a-f]{16}", reply.json()["batch"])
        before = files(tmp_path)
        for name in ("..%2Fledger.sqlite3", "ledger.sqlite3", "%2e%2e", "..%5cledger", "%00"):
            for method in ("GET", "DELETE"):
                found = await http.request(method, f"/v1/edits/{name}")
                assert found.status_code == httpx.codes.NOT_FOUND
        assert files(tmp_path) == before


def attached() -> Sequence[BaseRoute]:
    """The routes that the plugin adds to an app."""
    app = FastAPI()
    before = list(app.routes)
    EditPlugin().attach_router(app)
    return [route for route in app.routes if route not in before]


def unguarded(routes: Sequence[BaseRoute]) -> list[str]:
    """Those that may change something and do not ask `check_admission`."""
    return [
        f"{getattr(route, 'methods', None)} {getattr(route, 'path', route)}"
        for route in routes
        if not (getattr(route, "methods", None) or {"?"}) <= SAFE
        and not (isinstance(route, APIRoute) and _asks(route.dependant))
    ]


def _asks(dependant: Dependant) -> bool:
    return any(d.call is check_admission or _asks(d) for d in dependant.dependencies)


def test_every_route_that_may_change_something_asks_first() -> None:
    routes = attached()
    assert {m for route in routes for m in route.methods} > {"POST", "DELETE"}  # type: ignore[attr-defined]
    assert unguarded(routes) == []


def test_a_route_that_forgets_to_ask_is_found() -> None:
    def nothing() -> None:
        pass

    app = FastAPI()
    app.add_api_route("/get", nothing)
    app.add_api_route("/put", nothing, methods=["GET", "PUT"])
    app.add_route("/plain", nothing, methods=["POST"])  # type: ignore[arg-type]
    app.add_api_websocket_route("/socket", nothing)
    app.mount("/mounted", FastAPI())
    found = " ".join(unguarded(app.routes))
    assert all(path in found for path in ("/put", "/plain", "/socket", "/mounted"))
    assert "/get" not in found
    assert "/docs" not in found
