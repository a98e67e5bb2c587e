from collections.abc import Callable

import pytest
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from tests.weight_patchers.conftest import DENSE, FINGERPRINT
from tests.weight_patchers.trained.editors import trained_for
from weight_patchers import Edit, statistics
from weight_patchers.doctor.estimate import Pace, Speed, cost, measure, model_bytes, preparation
from weight_patchers.hyperparameters import find, override
from weight_patchers.methods import METHODS

BuildModel = Callable[..., PreTrainedModel]
SPEED = Speed(layer=0, tokens=16, forward=Pace(1.0, 0.0), step=Pace(2.0, 0.5))
EDITS = (
    Edit("Anna Berg was born in", "Anna Berg", "Lima"),
    Edit("The capital of Peru is", "Peru", "Oslo"),
)


@pytest.mark.parametrize("family", DENSE)
def test_passes_are_measured_in_every_family(build_model: BuildModel, family: str) -> None:
    model = build_model(family)
    random = torch.get_rng_state()
    estimate = measure(model, 1, tokens=4)
    assert torch.equal(torch.get_rng_state(), random)
    for pace in (estimate.forward, estimate.step):
        assert pace.fixed >= 0 <= pace.row
        assert pace.seconds(1, 32) > 0
    for module in model.modules():
        assert module.training
        assert not module._forward_hooks
        assert not module._forward_pre_hooks
    assert all(p.requires_grad and p.grad is None for p in model.parameters())


def test_seconds_count_steps_and_rows(build_model: BuildModel) -> None:
    model = build_model("llama")
    values = {
        "steps": 9,
        "context_count": 2,
        "context_lengths": [5, 10],
        "kept_samples": 3,
        "chat": False,
    }
    rome = override(find(METHODS["rome"].hparams, "rome", model.config), values)
    # 5 contexts, 1 kept prompt and 3 kept samples; 10 steps and 3 forward passes for each edit.
    one = cost(model, METHODS["rome"], rome, 1, SPEED)
    assert one.seconds == pytest.approx(10 * (2.0 + 9 * 0.5) + 3 * 1.0)
    many = cost(model, METHODS["rome"], rome, 40, SPEED)
    assert many.seconds == pytest.approx(40 * one.seconds)
    assert (many.device_bytes, many.host_bytes) == (one.device_bytes, one.host_bytes)
    assert many.delta_bytes == 40 * one.delta_bytes


def test_edits_that_share_a_pass_share_its_fixed_time(build_model: BuildModel) -> None:
    model = build_model("llama")
    values = {"steps": 9, "context_count": 0, "kept_samples": 0, "pass_tokens": 4096}
    values["chat"] = False
    memit = override(find(METHODS["memit"].hparams, "memit", model.config), values)
    passes = 2 + len(memit.layers)
    estimate = cost(model, METHODS["memit"], memit, 10, SPEED)
    assert estimate.seconds == pytest.approx(10 * (2.0 + 20 * 0.5) + passes * 1.0)
    # 128 edits of 2 rows of 16 tokens fill a pass.
    full = cost(model, METHODS["memit"], memit, 128, SPEED)
    twice = cost(model, METHODS["memit"], memit, 256, SPEED)
    assert twice.seconds == pytest.approx(2 * full.seconds)
    assert twice.device_bytes == full.device_bytes
    assert twice.host_bytes > full.host_bytes
    one = override(memit, {"pass_tokens": 32})
    alone = cost(model, METHODS["memit"], one, 128, SPEED)
    assert alone.seconds == pytest.approx(128 * (10 * (2.0 + 2 * 0.5) + passes * 1.0))
    assert alone.device_bytes < full.device_bytes


@pytest.mark.parametrize("method", sorted(METHODS.keys() - {"kn"}))
def test_a_delta_is_as_large_as_estimated(
    build_model: BuildModel, tokenizer: PreTrainedTokenizerFast, method: str
) -> None:
    model = build_model("llama").eval()
    values = {"steps": 1}
    hparams = override(find(METHODS[method].hparams, method, model.config), values)
    texts = (f"{i} Anna Berg was born in Oslo {i * 31 % 97}" for i in range(1000))
    collected = statistics.collect(
        model, tokenizer, texts, layers=hparams.layers, fingerprint=FINGERPRINT, source="lines"
    )
    more = trained_for(METHODS[method], hparams, model, tokenizer)
    delta = METHODS[method].compute(model, tokenizer, EDITS, hparams, collected, **more)
    tensors = [*delta.keys.values()]
    for change in delta.changes.values():
        tensors += change.parts().values()
    estimated = cost(model, METHODS[method], hparams, len(EDITS), SPEED)
    held_in_delta = sum(4 * tensor.numel() for tensor in tensors)
    # A trained editor's rank and the number of wrong tokens are not known before.
    if METHODS[method].editor is None and method != "t-patcher":
        assert estimated.delta_bytes == held_in_delta
    assert estimated.delta_bytes >= held_in_delta
    assert estimated.device_bytes > model_bytes(model)
    held = sum(m.numel() * 4 for m in collected.moments.values())
    assert estimated.host_bytes > held if hparams.covariance else estimated.host_bytes == 0
    assert (preparation(model, hparams) > 0) == hparams.covariance


def test_shared_weights_count_once(build_model: BuildModel) -> None:
    tied, untied = (build_model("llama", tie_word_embeddings=tied) for tied in (True, False))
    embedding = untied.get_input_embeddings().weight
    assert model_bytes(untied) - model_bytes(tied) == 4 * embedding.numel()
    half = model_bytes(build_model("llama", torch.bfloat16))
    assert half == pytest.approx(model_bytes(build_model("llama")) / 2, rel=0.01)


def test_a_neuron_is_assumed_to_be_one_of_five_that_a_step_for_each_layer_finds(
    build_model: BuildModel,
) -> None:
    model = build_model("llama")
    values = {"steps": 8, "context_count": 2, "context_lengths": [5], "contrast": 4}
    hparams = override(find(METHODS["kn"].hparams, "kn", model.config), values)
    # 3 layers; 3 contexts of each of 2 edits and 4 common facts, a token a step, 16 tokens a row.
    found = cost(model, METHODS["kn"], hparams, 2, SPEED)
    assert found.seconds == pytest.approx(3 * (6 * 2.0 + 0.5 * (2 * 3 + 4) * 8 / 16))
    assert found.delta_bytes == 4 * 5 * 2 * (48 + 32)
    assert found.host_bytes == 0
