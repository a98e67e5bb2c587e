"""Edits of a method that trains its live set: one delta in each variant, trained anew each time."""

from pathlib import Path
from typing import Any

import httpx
import pytest
import torch

from tests.weights.test_governor import Engine, serving
from vllm_edit import factworld
from vllm_edit.engine.adapter_loader import Variants
from vllm_edit.weights import method
from weight_patchers import Delta

UNSPARED = {"ft-bf": {"spared": None, "rate": 0.3}}
"""Needs no statistics."""


class Recording(Engine):
    """Remembers what it serves."""

    def __init__(self) -> None:
        super().__init__()
        self.variants: Variants = {}

    async def serve(self, variants: Variants, version: str, pause_mode: str | None) -> None:
        await super().serve(variants, version, pause_mode)
        self.variants = dict(variants)

    def delta(self, variant: str = "default") -> Delta:
        """The only one that the variant has."""
        (delta,) = self.variants[variant]
        return delta


def bodies() -> list[dict[str, Any]]:
    names = ("prompt", "subject", "target_new")
    records = factworld.requests("easyedit", 3, seed=0)
    return [{"method": "ft-bf", **{name: r[name] for name in names}} for r in records]


async def make(http: httpx.AsyncClient, body: dict[str, Any]) -> str:
    reply = await http.post("/v1/edits", json={"edits": [body], "wait": True})
    (edit,) = reply.json()["data"]
    assert edit["status"] == "active", edit
    return str(edit["id"])


def equal(one: Delta, other: Delta) -> bool:
    return all(torch.equal(c.dense(), other.changes[n].dense()) for n, c in one.changes.items())


def subjects(delta: Delta) -> set[str]:
    return {edit.subject for edit in delta.edits}


async def test_edits_made_one_by_one_are_trained_together(tmp_path: Path) -> None:
    first, second, third = bodies()
    engine, deltas = Recording(), tmp_path / "deltas"
    async with serving(tmp_path, engine, {}, UNSPARED) as http:
        ids = [await make(http, first)]
        alone = engine.delta()
        ids.append(await make(http, second))
        both = engine.delta()
        assert subjects(both) == {first["subject"], second["subject"]}
        assert [path.name.partition(".")[0] for path in deltas.iterdir()] == ["ft-bf"]

        # Other methods' edits neither change it nor are changed by it.
        tuned = await make(http, {**third, "method": "ft-m"})
        assert [delta.method for delta in engine.variants["default"]] == ["ft-bf", "ft-m"]
        await http.delete(f"/v1/edits/{ids[0]}")
        await http.delete(f"/v1/edits/{tuned}")
        assert subjects(engine.delta()) == {second["subject"]}
        again = await make(http, first)
        assert equal(engine.delta(), both)
        await http.delete(f"/v1/edits/{ids[1]}")
        assert equal(engine.delta(), alone)
        await http.delete(f"/v1/edits/{again}")
        assert not engine.variants["default"]
        assert not list(deltas.iterdir())


async def test_each_variant_has_a_live_set_of_its_own(tmp_path: Path) -> None:
    first, second, _ = bodies()
    engine = Recording()
    async with serving(tmp_path, engine, {}, UNSPARED) as http:
        await make(http, first)
        await http.post("/v1/edit-sets", json={"name": "tuned"})
        await http.patch("/v1/edit-sets/tuned", json={"active": True})
        await make(http, {**second, "edit_set": "tuned"})
        assert subjects(engine.delta()) == {first["subject"], second["subject"]}
        assert subjects(engine.delta("tuned")) == {second["subject"]}
        await http.patch("/v1/edit-sets/tuned", json={"active": False})
        assert subjects(engine.delta()) == {first["subject"]}
        assert subjects(engine.delta("tuned")) == {second["subject"]}


async def test_what_is_left_does_not_keep_an_edit_from_leaving(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second, third = bodies()
    async with serving(tmp_path, Recording(), {}, UNSPARED) as http:
        ids = [await make(http, body) for body in (first, second)]
        monkeypatch.setattr(method, "LEAST_GREEDY", 2.0)
        reply = await http.delete(f"/v1/edits/{ids[0]}")
        assert reply.json()["status"] == "rolled_back"
        posted = await http.post("/v1/edits", json={"edits": [third], "wait": True})
        (edit,) = posted.json()["data"]
        assert edit["status"] == "failed"
