from collections.abc import Callable

import pytest
import torch
import transformers
from torch import nn
from transformers import (
    AutoModelForCausalLM,
    Gemma3Config,
    Gemma3ForConditionalGeneration,
    PreTrainedModel,
    T5Config,
    T5ForConditionalGeneration,
)

from tests.weight_patchers.conftest import DENSE, LLAMA, MIXTURES
from weight_patchers.errors import UnsupportedModel
from weight_patchers.model import hooks
from weight_patchers.model.layers import attention_output, depth, layers, projection

BuildModel = Callable[..., PreTrainedModel]

DOWN = "model.layers.1.mlp.down_proj"
OUT = "model.layers.1.self_attn.o_proj"
NAMES = {
    "cohere": (DOWN, OUT),
    "gemma": (DOWN, OUT),
    "gemma2": (DOWN, OUT),
    "gemma3": (DOWN, OUT),
    "granite": (DOWN, OUT),
    "gpt2": ("transformer.h.1.mlp.c_proj", "transformer.h.1.attn.c_proj"),
    "gptj": ("transformer.h.1.mlp.fc_out", "transformer.h.1.attn.out_proj"),
    "llama": (DOWN, OUT),
    "mistral": (DOWN, OUT),
    "neox": ("gpt_neox.layers.1.mlp.dense_4h_to_h", "gpt_neox.layers.1.attention.dense"),
    "olmo2": (DOWN, OUT),
    "opt": ("model.decoder.layers.1.fc2", "model.decoder.layers.1.self_attn.out_proj"),
    "phi": ("model.layers.1.mlp.fc2", "model.layers.1.self_attn.dense"),
    "phi3": (DOWN, OUT),
    "qwen2": (DOWN, OUT),
    "qwen3": (DOWN, OUT),
}
# They norm or scale what attention and MLP give before it joins the residual stream.
SANDWICHED = {"gemma2", "gemma3", "granite", "olmo2"}

DTYPES = (torch.float32, torch.bfloat16)


def _run(model: PreTrainedModel) -> tuple[torch.Tensor, ...]:
    """The residual stream [1, tokens, d] before each layer, and what the head is given."""
    with torch.no_grad():
        found = model(torch.arange(1, 8)[None], output_hidden_states=True, use_cache=False)
    return tuple(found.hidden_states)


def test_every_dense_family_is_tested() -> None:
    assert set(NAMES) == set(DENSE)


@pytest.mark.parametrize("tied", [True, False], ids=["tied", "untied"])
@pytest.mark.parametrize("family", sorted(NAMES))
def test_the_parts_are_found(build_model: BuildModel, family: str, tied: bool) -> None:
    model = build_model(family, tie_word_embeddings=tied)
    head, embedding = model.get_output_embeddings(), model.get_input_embeddings()
    assert (head.weight is embedding.weight) == tied
    for dtype in DTYPES:
        found = projection(model.to(dtype), 1)
        assert found.name == f"{NAMES[family][0]}.weight"
        assert found.weight is model.get_parameter(found.name)
        assert found.weight.dtype == dtype
        assert found.transposed == (family == "gpt2")
        assert found.d_out == 32
        assert found.matrix().shape == (found.d_out, found.d_in)
        assert found.matrix().dtype == torch.float32
        assert attention_output(model, 1) is model.get_submodule(NAMES[family][1])
        assert len(layers(model)) == depth(model) == 3


@pytest.mark.parametrize("family", sorted(NAMES))
def test_the_parts_make_up_the_residual_stream(build_model: BuildModel, family: str) -> None:
    model = build_model(family).eval()
    parts: dict[int, nn.Module] = {
        0: layers(model)[1],
        1: projection(model, 1).module,
        2: attention_output(model, 1),
    }
    for dtype in DTYPES:
        with hooks.captured({}, parts, 1, stop=False) as (_, outputs):
            stream = _run(model.to(dtype))
        assert torch.equal(outputs[0], stream[2])
        if family not in SANDWICHED:
            summed = stream[1] + outputs[1] + outputs[2]
            error = (summed - stream[2]).norm() / stream[2].norm()
            assert float(error) < (1e-5 if dtype == torch.float32 else 2e-2)


@pytest.mark.parametrize("family", sorted(NAMES))
def test_what_is_added_to_a_part_shows_from_its_token_on(
    build_model: BuildModel, family: str
) -> None:
    model = build_model(family).eval()
    before = _run(model)
    for part in (layers(model)[1], projection(model, 1).module, attention_output(model, 1)):
        with hooks.added(part, torch.tensor([3]), torch.ones(1, 32)):
            after = _run(model)
        assert torch.equal(before[1], after[1])
        differs = (before[3] != after[3]).any(-1)[0].tolist()
        assert differs[:4] == [False, False, False, True]
    assert torch.equal(before[3], _run(model)[3])


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


@pytest.mark.parametrize(
    ("name", "values", "mlp", "attention"),
    [
        ("BloomConfig", {}, "mlp.dense_4h_to_h", "self_attention.dense"),
        ("FalconConfig", {}, "mlp.dense_4h_to_h", "self_attention.dense"),
        ("MptConfig", {"expansion_ratio": 2}, "ffn.down_proj", "attn.out_proj"),
        ("StableLmConfig", LLAMA, "mlp.down_proj", "self_attn.o_proj"),
        ("Starcoder2Config", LLAMA, "mlp.c_proj", "self_attn.o_proj"),
    ],
)
def test_a_family_that_nobody_listed_is_found_by_its_modules(
    name: str, values: dict[str, object], mlp: str, attention: str
) -> None:
    sizes = {"hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4, "vocab_size": 64}
    special = {"bos_token_id": 0, "eos_token_id": 0, "pad_token_id": 0}
    config = getattr(transformers, name)(**(sizes | values | special))
    model = AutoModelForCausalLM.from_config(config)
    assert projection(model, 1).name.endswith(f".1.{mlp}.weight")
    (found,) = [n for n, m in model.named_modules() if m is attention_output(model, 1)]
    assert found.endswith(f".1.{attention}")


def test_of_a_model_that_also_sees_the_language_part_is_edited() -> None:
    vision = {
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "image_size": 28,
        "patch_size": 14,
    }
    config = Gemma3Config(
        text_config=LLAMA | {"head_dim": 8, "vocab_size": 64},
        vision_config=vision,
        mm_tokens_per_image=4,
    )
    model = Gemma3ForConditionalGeneration(config)
    assert projection(model, 1).name == "model.language_model.layers.1.mlp.down_proj.weight"


@pytest.mark.parametrize("family", MIXTURES)
@pytest.mark.parametrize("layer", [0, 2])
def test_a_mixture_of_experts_is_refused(build_model: BuildModel, family: str, layer: int) -> None:
    with pytest.raises(UnsupportedModel, match="mixture of experts"):
        projection(build_model(family), layer)


def test_a_quantised_model_is_refused(build_model: BuildModel) -> None:
    model = build_model("llama")
    model.config.quantization_config = {"quant_method": "fp8"}
    with pytest.raises(UnsupportedModel, match="quantised"):
        projection(model, 1)


@pytest.mark.parametrize("dtype", [torch.int8, torch.uint8, torch.float8_e4m3fn])
def test_a_packed_weight_is_refused(build_model: BuildModel, dtype: torch.dtype) -> None:
    model = build_model("llama")
    module = model.get_submodule("model.layers.1.mlp.down_proj")
    weight = torch.zeros(32, 48).to(dtype)
    module.weight = nn.Parameter(weight, requires_grad=False)
    with pytest.raises(UnsupportedModel, match="quantised"):
        projection(model, 1)


def test_a_weight_that_is_used_twice_is_refused(build_model: BuildModel) -> None:
    model = build_model("llama")
    one, two = (projection(model, layer).module for layer in (0, 2))
    two.weight = one.weight
    with pytest.raises(UnsupportedModel, match=r"layers\.0.*layers\.2"):
        projection(model, 2)
    assert projection(model, 1).layer == 1


def test_an_offloaded_model_is_refused(build_model: BuildModel) -> None:
    model = build_model("llama").to("meta")
    with pytest.raises(UnsupportedModel, match="offloaded"):
        projection(model, 1)


def test_an_adapter_that_is_not_merged_is_refused(build_model: BuildModel) -> None:
    class Adapted(nn.Module):
        """As PEFT wraps a linear map."""

        def __init__(self, base: nn.Linear) -> None:
            super().__init__()
            self.base_layer = base
            self.lora_A = nn.Linear(base.in_features, 2, bias=False)
            self.lora_B = nn.Linear(2, base.out_features, bias=False)

    model = build_model("llama")
    mlp = model.get_submodule("model.layers.1.mlp")
    mlp.down_proj = Adapted(mlp.down_proj)
    with pytest.raises(UnsupportedModel, match="adapter"):
        projection(model, 1)


def test_a_layer_that_is_not_there_is_refused(build_model: BuildModel) -> None:
    with pytest.raises(UnsupportedModel, match="layers 0 to 2, not 3"):
        projection(build_model("llama"), 3)


def test_a_model_without_a_stack_of_layers_is_refused(build_model: BuildModel) -> None:
    model = build_model("llama")
    model.config.num_hidden_layers = 7
    with pytest.raises(UnsupportedModel, match="no stack of 7 decoder layers"):
        projection(model, 1)


def test_an_encoder_decoder_is_refused() -> None:
    config = T5Config(d_model=32, d_kv=8, d_ff=48, num_layers=2, num_heads=4, vocab_size=100)
    with pytest.raises(UnsupportedModel, match="decoder-only"):
        layers(T5ForConditionalGeneration(config))


def test_a_custom_mlp_is_refused(build_model: BuildModel) -> None:
    model = build_model("llama")
    layers(model)[1].mlp = nn.Identity()
    with pytest.raises(UnsupportedModel, match="layer 1 has no dense MLP output projection"):
        projection(model, 1)


def test_a_custom_attention_has_no_output(build_model: BuildModel) -> None:
    model = build_model("llama")
    layers(model)[1].self_attn.o_proj = nn.Identity()
    layers(model)[1].self_attn.v_proj = nn.Linear(32, 32)
    with pytest.raises(UnsupportedModel, match="layer 1 has no attention output"):
        attention_output(model, 1)
