"""Lists of edits: filters, order and pages, and that a long one holds nothing up."""

import asyncio
import json
import sqlite3
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from dataclasses import asdict
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from tests.edit_state import edit_state
from tests.leading import leading
from tests.service.steered import Steered, request
from vllm_edit.domain.edit import EditRequest
from vllm_edit.ledger import Ledger
from vllm_edit.plugin import EditPlugin
from vllm_edit.security.access import Access
from vllm_edit.security.hashed_key import HashedKey
from vllm_edit.security.tenants import Tenants
from vllm_edit.service.commands import CreateSet

MANY = 100_000


@asynccontextmanager
async def client(ledger: Path, **parts: Any) -> AsyncIterator[httpx.AsyncClient]:
    """A client of the plugin's routes, without an engine."""
    app = FastAPI()
    EditPlugin().attach_router(app)
    async with leading(ledger, Steered()) as service:
        await service.change_set(CreateSet("news", "acme"))
        app.state.edit_state = edit_state(service, **parts)
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://server") as opened:
            yield opened


def body(edit: EditRequest) -> dict[str, Any]:
    return {name: value for name, value in asdict(edit).items() if value}


@pytest.fixture
async def http(tmp_path: Path) -> AsyncIterator[httpx.AsyncClient]:
    """Five edits: e0 to e4, of which e1 is in a tenant's set, and e0 and e1 are taken back."""
    async with client(tmp_path / "ledger") as opened:
        for number, edit_set in enumerate((None, "news", None, None, None)):
            edit = body(request(f"e{number}", edit_set=edit_set))
            reply = await opened.post("/v1/edits", json=edit | {"wait": True})
            assert reply.is_success, reply.text
            if number < 2:
                await opened.delete(f"/v1/edits/{reply.json()['id']}")
        yield opened


async def listed(http: httpx.AsyncClient, **params: Any) -> tuple[list[str], bool]:
    reply = await http.get("/v1/edits", params=params)
    assert reply.is_success, reply.text
    return [e["prompt"].split()[1] for e in reply.json()["data"]], reply.json()["has_more"]


async def test_filters(http: httpx.AsyncClient) -> None:
    assert await listed(http) == (["e0", "e1", "e2", "e3", "e4"], False)
    assert await listed(http, status="active") == (["e2", "e3", "e4"], False)
    assert (await listed(http, status=["active", "rolled_back"]))[0][0] == "e0"
    assert await listed(http, edit_set="news") == (["e1"], False)
    assert await listed(http, method="batch") == ([], False)
    assert await listed(http, subject="X", status="rolled_back") == (["e0", "e1"], False)


@pytest.mark.parametrize("order", ["asc", "desc"])
async def test_pages_are_the_whole_list(http: httpx.AsyncClient, order: str) -> None:
    whole, _ = await listed(http, order=order)
    found: list[str] = []
    params: dict[str, Any] = {"order": order, "limit": 2}
    for more in (True, True, False):
        page = (await http.get("/v1/edits", params=params)).json()
        assert page["has_more"] is more
        found += [edit["prompt"].split()[1] for edit in page["data"]]
        params["after"] = page["data"][-1]["id"]
    assert found == whole
    assert await listed(http, **params) == ([], False)


@pytest.mark.parametrize(
    ("params", "status"),
    [
        ({"limit": 0}, 400),
        ({"limit": 1001}, 400),
        ({"limit": "many"}, 400),
        ({"limit": " 5"}, 400),
        ({"limit": [1, 2]}, 400),
        ({"status": "gone"}, 400),
        ({"order": "up"}, 400),
        ({"subjct": "X"}, 400),
        ({"after": "edit-none"}, 404),
    ],
)
async def test_bad_parameters_are_named(
    http: httpx.AsyncClient, params: dict[str, Any], status: int
) -> None:
    reply = await http.get("/v1/edits", params=params)
    assert reply.status_code == status
    if status == httpx.codes.BAD_REQUEST:
        assert reply.json()["error"]["param"].startswith(*params)


async def test_an_outsider_pages_behind_no_edit_of_a_tenant(tmp_path: Path) -> None:
    guarded = Access(HashedKey("admin"), local=False)
    tenants = Tenants({"acme": HashedKey("acme")})
    async with client(tmp_path / "ledger", access=guarded, tenants=tenants) as http:
        http.headers["X-Edit-Admin-Key"] = "admin"
        body = {
            name: value for name, value in asdict(request("e", edit_set="news")).items() if value
        }
        edit = (await http.post("/v1/edits", json=body)).json()
        del http.headers["X-Edit-Admin-Key"]
        assert await listed(http, edit_set="news") == ([], False)
        reply = await http.get("/v1/edits", params={"after": edit["id"]})
        assert reply.status_code == httpx.codes.NOT_FOUND


def write_many(path: Path) -> None:
    """A ledger of edits that have ended."""
    Ledger(path).close()
    detail = json.dumps({"request": asdict(request("capital", method="single"))})
    rows = ((n, "edit", f"edit-{n}", "failed", detail, float(n)) for n in range(1, MANY + 1))
    columns = "revision, kind, subject, status, detail, at"
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.executemany(f"INSERT INTO events ({columns}) VALUES (?, ?, ?, ?, ?, ?)", rows)  # noqa: S608


async def longest_hold(until: asyncio.Event) -> float:
    """The longest time for which the event loop did nothing else."""
    longest, before = 0.0, time.monotonic()
    while not until.is_set():
        await asyncio.sleep(0)
        now = time.monotonic()
        longest, before = max(longest, now - before), now
    return longest


async def test_a_list_of_very_many_edits_holds_nothing_up(tmp_path: Path) -> None:
    write_many(tmp_path / "ledger")
    async with client(tmp_path / "ledger") as http:
        done = asyncio.Event()
        watch = asyncio.create_task(longest_hold(done))
        assert len((await listed(http))[0]) == 1000
        assert len((await listed(http, after=f"edit-{MANY // 2}"))[0]) == 1000
        assert await listed(http, order="desc", subject="nobody") == ([], False)
        assert await listed(http, status="active") == ([], False)
        done.set()
        assert await watch < 1.0
