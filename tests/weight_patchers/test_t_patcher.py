"""T-Patcher: its losses and its start against plain NumPy, and which units an edit gets."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from weight_patchers import METHODS, Delta, Edit, Statistics, applied
from weight_patchers.errors import UnsupportedModel
from weight_patchers.hyperparameters import build
from weight_patchers.t_patcher.losses import activation_loss, first_keys, memory_loss, scores

BuildModel = Callable[..., PreTrainedModel]

NONE = Statistics("0" * 64, "none", 0, "float32", {})
EDIT = Edit("The capital of France is", "France", "Lima Oslo")


def patched(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, *edits: Edit, **values: Any
) -> Delta:
    method = METHODS["t-patcher"]
    given = {"layer": 2, "gain": 1.0, "spread": 0.0, "rate": 0.02, "memory_texts": 8}
    hparams = build(method.hparams, given | {"memory_length": 8, "steps": 300} | values)
    return method.compute(model, tokenizer, edits, hparams, NONE, controls=["Anna lives in"])


def test_the_first_key_answers_one_to_its_input() -> None:
    inputs = np.random.default_rng(0).standard_normal((4, 6))
    found = first_keys(torch.from_numpy(inputs)).numpy()
    expected = inputs / (inputs**2).sum(1, keepdims=True)
    np.testing.assert_allclose(found, expected, rtol=1e-12)
    np.testing.assert_allclose((found * inputs).sum(1), np.ones(4), rtol=1e-12)


@pytest.mark.parametrize("names", ["kv", "kbv", "guv"])
def test_what_a_unit_answers(names: str) -> None:
    rng = np.random.default_rng(0)
    exact = {name: rng.standard_normal((5, 3)) for name in names if name != "b"}
    if "b" in names:
        exact["b"] = rng.standard_normal(3)
    hidden = rng.standard_normal((7, 5))
    found = scores({n: torch.from_numpy(p) for n, p in exact.items()}, torch.from_numpy(hidden))
    expected = hidden @ exact["g" if "g" in names else "k"] + exact.get("b", 0.0)
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-12)


@pytest.mark.parametrize("top", [1, 2, 9])
def test_the_losses(top: int) -> None:
    rng = np.random.default_rng(1)
    own, memory = rng.standard_normal(3), rng.standard_normal((6, 3))
    least = np.sort(np.exp(-own))[::-1][:top]
    np.testing.assert_allclose(
        activation_loss(torch.from_numpy(own), top), least.mean(), rtol=1e-12
    )
    each = []
    for unit in range(3):
        most = np.sort(memory[:, unit])[::-1][:top]
        each.append(np.exp(most - own[unit] + 3.0).mean() + np.exp(most + 3.0).mean())
    found = memory_loss(torch.from_numpy(memory), torch.from_numpy(own), 3.0, top)
    np.testing.assert_allclose(found, np.mean(each), rtol=1e-12)


@pytest.mark.parametrize("family", ["gpt2", "llama"])
def test_each_wrong_token_gets_a_unit_and_all_are_told(
    build_model: BuildModel, tokenizer: PreTrainedTokenizerFast, family: str
) -> None:
    model = build_model(family).eval()
    delta = patched(model, tokenizer, EDIT)
    (units,) = delta.neurons.values()
    assert units.count == delta.diagnostics["units"] > 1
    (report,) = delta.diagnostics["edits"]
    assert report["greedy_after"] == 1
    assert delta.diagnostics["least_activation"] > delta.diagnostics["largest_memory_activation"]
    assert patched(model, tokenizer, EDIT, most_units=1).diagnostics["units"] == 1
    with applied(model, [delta]):
        again = patched(model, tokenizer, EDIT)
    assert again.diagnostics["units"] == 0
    assert not again.changes


def test_a_batch_has_the_units_of_its_edits(
    build_model: BuildModel, tokenizer: PreTrainedTokenizerFast
) -> None:
    model = build_model("llama").eval()
    other = Edit("Anna Berg was born in", "Anna Berg", "Paris")
    alone = [
        patched(model, tokenizer, edit, steps=1).diagnostics["units"] for edit in (EDIT, other)
    ]
    assert patched(model, tokenizer, EDIT, other, steps=1).diagnostics["units"] == sum(alone)


def test_a_mixture_of_experts_is_refused(
    build_model: BuildModel, tokenizer: PreTrainedTokenizerFast
) -> None:
    with pytest.raises(UnsupportedModel, match="mixture of experts"):
        patched(build_model("mixtral"), tokenizer, EDIT)
