"""The governor between a client and the engine: refuses what is new, keeps what is acknowledged."""

import tempfile
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from types import MappingProxyType, SimpleNamespace
from typing import Any, cast

import httpx
from fastapi import FastAPI
from prometheus_client import REGISTRY

from tests.edit_state import edit_state
from vllm_edit import factworld
from vllm_edit.api.attach import attach
from vllm_edit.editor.client import EditorClient, EditorOptions
from vllm_edit.engine.adapter_loader import Variants
from vllm_edit.ledger import Ledger
from vllm_edit.service.service import EditService
from vllm_edit.service.validation import EditValidator
from vllm_edit.settings import Settings
from vllm_edit.weights.delta_store import DeltaStore
from vllm_edit.weights.method import WeightMethod

STRICT = {"drift_warn": 1e-9, "drift_refuse": 1e-9}
WATCHFUL = {"drift_warn": 1e-9}


class Engine:
    """Takes every change of what is served, and remembers what the weights are named."""

    def __init__(self) -> None:
        self.version = "0"

    async def serve(self, variants: Variants, version: str, pause_mode: str | None) -> None:
        if any(variants.values()) or self.version != "0":
            self.version = version

    async def drop(self, variant: str) -> None:
        pass

    async def close(self) -> None:
        pass


@asynccontextmanager
async def serving(
    store: Path,
    engine: Engine,
    bounds: Mapping[str, Any],
    values: Mapping[str, Mapping[str, Any]] = MappingProxyType({}),
) -> AsyncIterator[httpx.AsyncClient]:
    """A client of the routes, over the weight methods and a real editor process."""
    model = factworld.checkpoint()
    scratch = tempfile.TemporaryDirectory(prefix="vllm-edit-")
    options = EditorOptions(model, Path(scratch.name), store / "statistics", timeout=300.0)
    method = WeightMethod(
        DeltaStore(store / "deltas", model),
        EditorClient(options),
        cast("Any", engine),
        hyperparameters={"governor": bounds, **values},
        eager=False,
        public=bool,
        scratch=scratch,
    )
    guard = EditValidator(Settings(), method.names, ())
    service = EditService(Ledger(store / "ledger.sqlite3"), [method], guard)
    app = FastAPI()
    attach(app)
    app.state.edit_state = edit_state(service, names=SimpleNamespace(reasons={}))
    await service.start()
    await service.lead()
    try:
        transport = httpx.ASGITransport(app=app)
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as http:
            yield http
    finally:
        await service.stop()


def bodies(count: int) -> list[dict[str, Any]]:
    """Fine-tuned edits, which need no statistics."""
    return [
        {"method": "ft-m", **{name: r[name] for name in ("prompt", "subject", "target_new")}}
        for r in factworld.requests("easyedit", count, seed=0)
    ]


async def post(http: httpx.AsyncClient, *edits: dict[str, Any]) -> list[dict[str, Any]]:
    reply = await http.post("/v1/edits", json={"edits": edits, "wait": True})
    assert reply.status_code == httpx.codes.OK, reply.text
    found: list[dict[str, Any]] = reply.json()["data"]
    return found


def alarms() -> dict[str, float]:
    """As `/metrics` has them."""
    name = "vllm_edit_drift_alarms_total"
    outcomes = ("refused", "warned")
    return {o: REGISTRY.get_sample_value(name, {"outcome": o}) or 0.0 for o in outcomes}


def files(store: Path) -> list[str]:
    return sorted(path.name for path in (store / "deltas").iterdir())


async def test_a_refused_edit_fails_and_changes_nothing(tmp_path: Path) -> None:
    engine, (first, second) = Engine(), bodies(2)
    before = alarms()
    async with serving(tmp_path, engine, STRICT) as http:
        (refused,) = await post(http, first)
        assert refused["status"] == "failed"
        assert refused["error"]["code"] == "governor_refused"
        assert "drift_refuse is 1e-09: take edits back" in refused["error"]["message"]
        assert refused["warnings"] == []
        assert (engine.version, files(tmp_path)) == ("0", [])

    async with serving(tmp_path, engine, WATCHFUL) as http:
        (warned,) = await post(http, second)
        assert warned["status"] == "active"
        (warning,) = warned["warnings"]
        assert "drift_warn is 1e-09" in warning
        assert warned["drift"] > 0
        assert alarms() == {outcome: count + 1 for outcome, count in before.items()}
        assert engine.version != "0"
        listed = (await http.get("/v1/edits")).json()["data"]
        assert [edit["warnings"] for edit in listed] == [[], [warning]]
        assert (await http.get(f"/v1/edits/{warned['id']}")).json() == warned
        taken = (await http.delete(f"/v1/edits/{warned['id']}")).json()
        assert (taken["status"], taken["warnings"]) == ("rolled_back", [])

    async with serving(tmp_path, engine, {}) as http:
        (usual,) = await post(http, second)
        assert (usual["status"], usual["warnings"]) == ("active", [])


async def test_what_was_acknowledged_is_never_refused(tmp_path: Path) -> None:
    """Its delta is computed anew: after it was lost, and when a batch loses one of its edits."""
    engine, (first, second, third) = Engine(), bodies(3)
    async with serving(tmp_path, engine, {}) as http:
        edits = await post(http, first, second)
        assert [edit["status"] for edit in edits] == ["active", "active"]
    (name,) = files(tmp_path)
    (tmp_path / "deltas" / name).unlink()
    async with serving(tmp_path, engine, STRICT) as http:
        assert files(tmp_path) == [name]
        reply = await http.delete(f"/v1/edits/{edits[0]['id']}")
        assert reply.json()["status"] == "rolled_back", reply.text
        kept = (await http.get(f"/v1/edits/{edits[1]['id']}")).json()
        assert kept["status"] == "active"
        assert len(kept["warnings"]) == 1
        (refused,) = await post(http, third)
        assert refused["error"]["code"] == "governor_refused"
        assert (await http.get(f"/v1/edits/{edits[1]['id']}")).json() == kept
