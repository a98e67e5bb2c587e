"""Breadth-first fine-tuning: where the change may go, and that only the set of edits counts."""

import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from weight_patchers import METHODS, Delta, Edit, Statistics
from weight_patchers.fine_tuning.breadth_first import free_directions
from weight_patchers.hyperparameters import build
from weight_patchers.model.layers import projection

BuildModel = Callable[..., PreTrainedModel]
Collect = Callable[..., Statistics]

EDITS = [
    Edit("The capital of France is", "France", "Lima"),
    Edit("Anna Berg was born in", "Anna Berg", "Paris"),
    Edit("Anna Berg works for", "Anna Berg", "Oslo"),
]


def tuned(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerFast,
    edits: list[Edit],
    statistics: Statistics,
    **values: Any,
) -> Delta:
    method = METHODS["ft-bf"]
    given = {"layers": (0, 1), "rate": 0.1, "steps": 30, "batch": 2, "spared": 0.5}
    hparams = build(method.hparams, given | values)
    return method.compute(model, tokenizer, edits, hparams, statistics, controls=["Anna lives in"])


@pytest.mark.parametrize("spared", [0.2, 0.5, 0.9, 0.999])
def test_the_spared_directions_carry_their_share_of_the_energy(spared: float) -> None:
    """Against plain NumPy: as few leading eigenvectors as carry the share, and no fewer."""
    rng = np.random.default_rng(0)
    keys = rng.standard_normal((200, 12)) * np.geomspace(1, 0.05, 12)
    moment = keys.T @ keys / len(keys)
    free = free_directions(torch.from_numpy(moment).float(), spared).numpy()
    exact = moment.astype(np.float32).astype(np.float64)
    values, vectors = np.linalg.eigh((exact + exact.T) / 2)
    values, vectors = values[::-1], vectors[:, ::-1]
    leading = int(np.searchsorted(np.cumsum(values) / values.sum(), spared)) + 1
    leading = min(leading, 11)
    assert free.shape == (12, 12 - leading)
    assert np.allclose(free.T @ free, np.eye(free.shape[1]), atol=1e-9)
    kept = vectors[:, leading:]
    assert np.allclose(free @ free.T, kept @ kept.T, atol=1e-6)
    energy = np.trace(exact) - np.trace(free.T @ exact @ free)
    assert energy >= spared * np.trace(exact) - 1e-9 or leading == 11


def test_the_change_leaves_the_spared_directions_alone(
    build_model: BuildModel, tokenizer: PreTrainedTokenizerFast, collected: Collect
) -> None:
    model = build_model("llama").eval()
    statistics = collected(model)
    delta = tuned(model, tokenizer, EDITS, statistics)
    for layer in (0, 1):
        change = delta.changes[projection(model, layer).name].dense().double()
        free = free_directions(statistics.moment(layer), 0.5)
        outside = change - change @ free @ free.T
        assert float(outside.norm() / change.norm()) < 1e-5


def test_without_sparing_no_statistics_are_needed(
    build_model: BuildModel, tokenizer: PreTrainedTokenizerFast
) -> None:
    model = build_model("gpt2").eval()
    none = Statistics("0" * 64, "none", 0, "float32", {})
    delta = tuned(model, tokenizer, EDITS, none, spared=None)
    before, after = (
        [edit[f"probability_{when}"] for edit in delta.diagnostics["edits"]]
        for when in ("before", "after")
    )
    assert all(now > 2 * was for was, now in zip(before, after, strict=True))


def test_only_the_set_of_edits_counts(
    build_model: BuildModel, tokenizer: PreTrainedTokenizerFast, collected: Collect
) -> None:
    model = build_model("llama").eval()
    statistics = collected(model)
    one = tuned(model, tokenizer, EDITS, statistics)
    other = tuned(model, tokenizer, EDITS[::-1], statistics)
    for name, change in one.changes.items():
        assert torch.equal(change.dense(), other.changes[name].dense())
    assert one.diagnostics["edits"] == other.diagnostics["edits"][::-1]


def test_training_stops_below_the_loss(
    build_model: BuildModel, tokenizer: PreTrainedTokenizerFast, collected: Collect
) -> None:
    model = build_model("llama").eval()
    statistics = collected(model)
    delta = tuned(model, tokenizer, EDITS, statistics, steps=500, stop_loss=0.5)
    assert delta.diagnostics["loss"] < 0.5
    assert 1 < delta.diagnostics["edits"][0]["steps"] < 500
    satisfied = tuned(model, tokenizer, EDITS, statistics, stop_loss=1000.0)
    assert satisfied.diagnostics["edits"][0]["steps"] == 1
    assert set(satisfied.diagnostics["relative_norm"].values()) == {0.0}


def test_parts_of_a_pass_change_rounding_only(
    build_model: BuildModel,
    tokenizer: PreTrainedTokenizerFast,
    collected: Collect,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model = build_model("llama").eval()
    statistics = collected(model)
    together = tuned(model, tokenizer, EDITS, statistics, steps=10)
    module = sys.modules["weight_patchers.fine_tuning.compute"]
    monkeypatch.setattr(module, "pass_tokens", lambda _model: 1)
    apart = tuned(model, tokenizer, EDITS, statistics, steps=10)
    for name, change in together.changes.items():
        expected = change.dense()
        assert float((apart.changes[name].dense() - expected).norm() / expected.norm()) < 1e-2
