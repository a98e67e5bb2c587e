"""Who changed what, and what is erased, over the routes themselves."""

from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.api.test_listing import body, client
from tests.service.steered import request
from vllm_edit.security.access import ADMIN_HEADER, Access
from vllm_edit.security.hashed_key import HashedKey
from vllm_edit.security.tenants import TENANT_HEADER, Tenants
from vllm_edit.settings import Settings

KEY = {ADMIN_HEADER: "the admin's"}
GUARDED = Access(HashedKey(KEY[ADMIN_HEADER]), local=False)
ACME = {TENANT_HEADER: "acme's"}
TENANTS = Tenants({"acme": HashedKey(ACME[TENANT_HEADER])})


async def changes(http: httpx.AsyncClient, **params: Any) -> list[dict[str, Any]]:
    reply = await http.get("/v1/edits/audit", params=params, headers=KEY)
    assert reply.is_success, reply.text
    found: list[dict[str, Any]] = reply.json()["data"]
    return found


async def test_a_change_names_its_key_client_and_request(tmp_path: Path) -> None:
    async with client(tmp_path / "ledger", access=GUARDED) as http:
        headers = KEY | {"X-Request-Id": "r-1"}
        edit = body(request("capital")) | {"wait": True}
        made = (await http.post("/v1/edits", json=edit, headers=headers)).json()
        path = f"/v1/edits/{made['id']}"
        await http.delete(path, headers=KEY | {"X-Request-Id": "x" * 1000})
        ours = await changes(http, subject=made["id"])
        statuses = ["proposed", "computing", "applying", "active", "rolled_back"]
        assert [change["status"] for change in ours] == statuses
        actor = {"key": "admin", "client": "127.0.0.1", "request": "r-1"}
        assert [change["actor"] for change in ours[:2]] == [actor, None]
        assert ours[-1]["actor"] == actor | {"request": "x" * 128}
        everything = await changes(http)
        assert everything[0]["kind"] == "edit_set"
        assert everything[1:] == ours
        assert await changes(http, after=ours[1]["revision"], limit=2) == ours[2:4]
        assert await changes(http, subject="news") == everything[:1]


@pytest.mark.parametrize("headers", [{}, ACME, {ADMIN_HEADER: "wrong"}])
async def test_nobody_else_sees_who_changed_what(tmp_path: Path, headers: dict[str, str]) -> None:
    async with client(tmp_path / "ledger", access=GUARDED, tenants=TENANTS) as http:
        reply = await http.get("/v1/edits/audit", headers=headers)
        assert (reply.status_code, reply.json()["error"]["code"]) == (401, "admin_key_required")


async def test_nothing_is_called_by_a_zero(tmp_path: Path) -> None:
    async with client(tmp_path / "ledger") as http:
        assert await changes(http, subject="\0") == []


@pytest.mark.parametrize("params", [{"after": -1}, {"after": 1 << 63}, {"limit": 0}, {"x": 1}])
async def test_bad_parameters_of_the_audit_log(tmp_path: Path, params: dict[str, int]) -> None:
    async with client(tmp_path / "ledger") as http:
        assert (await http.get("/v1/edits/audit", params=params)).status_code == 400


@pytest.mark.parametrize("ended", [True, False])
async def test_an_edits_texts_are_erased_on_request(tmp_path: Path, ended: bool) -> None:
    async with client(tmp_path / "ledger") as http:
        edit = body(request("capital", target="Zqx")) | {"wait": True}
        made = (await http.post("/v1/edits", json=edit)).json()
        path = f"/v1/edits/{made['id']}"
        if ended:
            await http.delete(path)
        erased = (await http.delete(path, params={"erase": True})).json()
        assert (erased["status"], erased["erased"]) == ("rolled_back", True)
        texts = ("prompt", "subject", "target_new")
        assert [erased[name] for name in texts] == ["", "", ""]
        assert (await http.get(path)).json() == erased
        assert (await changes(http))[-1]["kind"] == "erasure"
        assert (await http.delete(path)).status_code == httpx.codes.CONFLICT
        assert (await http.delete(path, params={"erase": True})).is_success
        # The fact can be edited again.
        again = (await http.post("/v1/edits", json=edit)).json()
        assert (again["status"], again["target_new"]) == ("active", "Zqx")


async def test_what_cannot_be_erased(tmp_path: Path) -> None:
    async with client(tmp_path / "ledger") as http:
        reply = await http.delete("/v1/edits/edit-none", params={"erase": True})
        assert reply.status_code == httpx.codes.NOT_FOUND
        reply = await http.delete("/v1/edits/edit-none", params={"erase": "1"})
        assert reply.status_code == httpx.codes.BAD_REQUEST


async def test_a_tenants_sets_hold_so_many_edits(tmp_path: Path) -> None:
    settings = Settings(max_tenant_edits=2)
    async with client(tmp_path / "ledger", tenants=TENANTS, settings=settings) as http:
        edits = [body(request(f"e{number}", edit_set="news")) for number in range(3)]
        reply = await http.post("/v1/edits", json=edits)
        assert reply.status_code == httpx.codes.CONFLICT
        assert reply.json()["error"]["code"] == "too_many_edits"
        first = (await http.post("/v1/edits", json=edits[0] | {"wait": True})).json()
        assert (await http.post("/v1/edits", json=edits[1])).is_success
        assert (await http.post("/v1/edits", json=edits[2])).status_code == httpx.codes.CONFLICT
        everyones = [body(request(f"f{number}")) for number in range(3)]
        assert (await http.post("/v1/edits", json=everyones)).is_success
        await http.delete(f"/v1/edits/{first['id']}")
        assert (await http.post("/v1/edits", json=edits[2])).is_success
