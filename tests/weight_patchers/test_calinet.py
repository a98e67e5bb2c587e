"""CaliNET: untrained slots change nothing, and only the set of edits counts."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from weight_patchers import METHODS, Context, Delta, Edit, Statistics
from weight_patchers.errors import UnsupportedModel
from weight_patchers.hyperparameters import build

BuildModel = Callable[..., PreTrainedModel]

NONE = Statistics("0" * 64, "none", 0, "float32", {})
EDITS = [
    Edit("The capital of France is", "France", "Lima"),
    Edit("Anna Berg was born in", "Anna Berg", "Paris"),
    Edit("Anna Berg works for", "Anna Berg", "Oslo"),
]


def trained(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, edits: list[Edit], **values: Any
) -> Delta:
    method = METHODS["calinet"]
    given = {"layer": 1, "slots": 16, "rate": 0.02, "steps": 60, "batch": 2, "memory_texts": 8}
    hparams = build(method.hparams, given | {"memory_length": 8} | values)
    return method.compute(
        model, tokenizer, edits, hparams, NONE,
        contexts=(Context(), Context("Oslo is big. ")), controls=["Anna lives in"],
    )  # fmt: skip


@pytest.mark.parametrize("family", ["gpt2", "llama", "opt"])
def test_all_edits_are_told(
    build_model: BuildModel, tokenizer: PreTrainedTokenizerFast, family: str
) -> None:
    delta = trained(build_model(family).eval(), tokenizer, EDITS, keep=0.0)
    assert [report["greedy_after"] for report in delta.diagnostics["edits"]] == [1.0] * 3
    (slots,) = delta.neurons.values()
    assert slots.count == 16


def test_slots_begin_with_writing_nothing(
    build_model: BuildModel, tokenizer: PreTrainedTokenizerFast
) -> None:
    """With a rate of almost 0 the slots stay as they begin."""
    delta = trained(build_model("llama").eval(), tokenizer, EDITS, rate=1e-30, steps=1)
    (slots,) = delta.neurons.values()
    assert float(slots.v.abs().max()) < 1e-25
    assert slots.g is not None
    assert float(slots.g.abs().min()) > 0
    assert delta.diagnostics["drift"]["max"] < 1e-6


def test_keeping_other_text_makes_the_slots_write_less_there(
    build_model: BuildModel, tokenizer: PreTrainedTokenizerFast
) -> None:
    model = build_model("llama").eval()
    free, kept = (trained(model, tokenizer, EDITS, keep=keep) for keep in (0.0, 100.0))
    assert kept.diagnostics["drift"]["mean"] < free.diagnostics["drift"]["mean"]


def test_the_order_of_edits_makes_no_difference(
    build_model: BuildModel, tokenizer: PreTrainedTokenizerFast
) -> None:
    model = build_model("llama").eval()
    one = trained(model, tokenizer, EDITS, steps=5)
    other = trained(model, tokenizer, [EDITS[2], EDITS[0], EDITS[1]], steps=5)
    for name, slots in one.neurons.items():
        for part, tensor in slots.parts().items():
            assert torch.equal(tensor, other.neurons[name].parts()[part])
    assert one.diagnostics["edits"][0] == other.diagnostics["edits"][1]


def test_a_mixture_of_experts_is_refused(
    build_model: BuildModel, tokenizer: PreTrainedTokenizerFast
) -> None:
    with pytest.raises(UnsupportedModel, match="mixture of experts"):
        trained(build_model("mixtral"), tokenizer, EDITS)
