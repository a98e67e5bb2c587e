from collections.abc import Callable

import pytest
import torch
from transformers import PreTrainedModel

from weight_patchers.errors import UnsupportedModel
from weight_patchers.families import projection

BuildModel = Callable[..., PreTrainedModel]

NAMES = {
    "llama": "model.layers.1.mlp.down_proj.weight",
    "mistral": "model.layers.1.mlp.down_proj.weight",
    "qwen2": "model.layers.1.mlp.down_proj.weight",
    "qwen3": "model.layers.1.mlp.down_proj.weight",
    "gemma2": "model.layers.1.mlp.down_proj.weight",
    "gpt2": "transformer.h.1.mlp.c_proj.weight",
    "gptj": "transformer.h.1.mlp.fc_out.weight",
    "neox": "gpt_neox.layers.1.mlp.dense_4h_to_h.weight",
    "phi": "model.layers.1.mlp.fc2.weight",
    "opt": "model.decoder.layers.1.fc2.weight",
}


@pytest.mark.parametrize("family", sorted(NAMES))
def test_the_output_projection_is_found(build_model: BuildModel, family: str) -> None:
    model = build_model(family)
    found = projection(model, 1)
    assert found.name == NAMES[family]
    assert found.weight is model.get_parameter(found.name)
    assert found.transposed == (family == "gpt2")
    assert found.d_out == 32
    assert found.matrix().shape == (found.d_out, found.d_in)


def test_a_written_matrix_reads_back_in_both_orientations(build_model: BuildModel) -> None:
    for family in ("gpt2", "llama"):
        found = projection(build_model(family), 0)
        matrix = torch.randn(found.d_out, found.d_in)
        found.write(matrix)
        assert torch.equal(found.matrix(), matrix)
        inputs = torch.randn(1, 2, found.d_in)
        bias = getattr(found.module, "bias", None)
        expected = inputs @ matrix.T + (0 if bias is None else bias)
        assert torch.allclose(found.module(inputs), expected, atol=1e-4)


def test_a_mixture_of_experts_is_refused(build_model: BuildModel) -> None:
    with pytest.raises(UnsupportedModel, match="mixture of experts"):
        projection(build_model("mixtral"), 1)


def test_a_quantised_model_is_refused(build_model: BuildModel) -> None:
    model = build_model("llama")
    model.config.quantization_config = {"quant_method": "fp8"}
    with pytest.raises(UnsupportedModel, match="quantised"):
        projection(model, 1)


def test_an_integer_weight_is_refused(build_model: BuildModel) -> None:
    model = build_model("llama")
    module = model.get_submodule("model.layers.1.mlp.down_proj")
    weight = torch.zeros(32, 48, dtype=torch.int8)
    module.weight = torch.nn.Parameter(weight, requires_grad=False)
    with pytest.raises(UnsupportedModel, match="quantised"):
        projection(model, 1)


def test_a_layer_that_is_not_there_is_refused(build_model: BuildModel) -> None:
    with pytest.raises(UnsupportedModel, match="layers 0 to 2, not 3"):
        projection(build_model("llama"), 3)


def test_a_model_without_a_stack_of_layers_is_refused(build_model: BuildModel) -> None:
    model = build_model("llama")
    model.config.num_hidden_layers = 7
    with pytest.raises(UnsupportedModel, match="no stack of 7 decoder layers"):
        projection(model, 1)
