"""A store with a weight edit, and a server that does not serve the model it was made for."""

import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from safetensors.torch import save_file

from tests import one_weight
from tests.leading import leading
from tests.weights.test_governor import Engine
from vllm_edit.domain.edit import EditRequest, Proposal, Status, Step
from vllm_edit.domain.errors import Unavailable
from vllm_edit.editor.client import EditorClient, EditorOptions
from vllm_edit.engine.checkpoint import find_weights
from vllm_edit.ledger import Ledger
from vllm_edit.service.service import EditService
from vllm_edit.weights.delta_store import DeltaKey, DeltaStore
from vllm_edit.weights.method import WeightMethod

REQUEST = EditRequest("rome", "The capital of X is", "X", "Y")


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return one_weight.base(tmp_path / "model")


@pytest.fixture
def store(tmp_path: Path, model: Path) -> Path:
    """An active edit with its delta."""
    folder = tmp_path / "store"
    with Ledger(folder / "ledger.sqlite3") as ledger:
        ledger.propose([Proposal("edit-1", REQUEST)])
        ledger.record([Step("edit-1", Status.ACTIVE)])
    delta = replace(one_weight.delta_of(model), diagnostics={"edits": [{"greedy_after": 1.0}]})
    delta.save(DeltaStore(folder / "deltas", model).path(DeltaKey("edit-1", ("edit-1",))))
    return folder


@asynccontextmanager
async def serving(store: Path, model: Path) -> AsyncIterator[EditService]:
    scratch = tempfile.TemporaryDirectory(prefix="vllm-edit-")
    folder, missing = find_weights(str(model))
    method = WeightMethod(
        DeltaStore(store / "deltas", folder),
        EditorClient(EditorOptions(folder, Path(scratch.name), store / "statistics")),
        cast("Any", Engine()),
        hyperparameters={},
        eager=False,
        public=bool,
        scratch=scratch,
        missing=missing,
    )
    async with leading(store / "ledger.sqlite3", method) as service:
        yield service


def change_base(model: Path) -> None:
    save_file({"weight": torch.zeros(2, 2)}, model / "model.safetensors")


def lose_base(model: Path) -> None:
    (model / "model.safetensors").rename(model / "pytorch_model.bin")


@pytest.mark.parametrize(
    ("spoil", "code"), [(change_base, "wrong_base"), (lose_base, "unavailable")]
)
async def test_the_edit_waits_for_its_base(store: Path, model: Path, spoil: Any, code: str) -> None:
    whole = (model / "model.safetensors").read_bytes()
    spoil(model)
    async with serving(store, model) as service:
        (edit,) = service.edits()
        assert edit.status is Status.WAITING
        assert edit.failure is not None
        assert edit.failure.code == code
        assert service.labels("default") == []
        if code == "unavailable":
            with pytest.raises(Unavailable, match="safetensors"):
                await service.submit([REQUEST], wait=False)
    (model / "model.safetensors").write_bytes(whole)
    async with serving(store, model) as service:
        assert service.get("edit-1").status is Status.ACTIVE
        assert service.labels("default") == ["rome"]


async def test_it_can_be_taken_back_meanwhile(store: Path, model: Path) -> None:
    change_base(model)
    async with serving(store, model) as service:
        assert (await service.roll_back("edit-1")).status is Status.ROLLED_BACK
        assert not list((store / "deltas").glob("*.safetensors"))
