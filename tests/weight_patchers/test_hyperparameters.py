from collections.abc import Mapping
from importlib.resources import files

import pytest
import yaml
from transformers import GPT2Config, GPTJConfig, LlamaConfig

from weight_patchers import METHODS
from weight_patchers.errors import InvalidHyperparameters
from weight_patchers.hyperparameters import build, find, override
from weight_patchers.rome import RomeHparams


def test_a_listed_model_gets_its_published_values() -> None:
    xl = find(RomeHparams, "rome", GPT2Config(n_embd=1600, n_layer=48, n_head=25))
    assert (xl.layer, xl.steps, xl.scale, xl.step) == (17, 20, "absolute", 0.5)
    assert find(RomeHparams, "rome", GPTJConfig()).layer == 5
    llama3 = LlamaConfig(
        hidden_size=4096, num_hidden_layers=32, intermediate_size=14336, num_key_value_heads=8
    )
    assert find(RomeHparams, "rome", llama3).weight_decay == 1e-3


@pytest.mark.parametrize(("depth", "layer"), [(3, 1), (6, 1), (12, 2), (32, 5), (80, 14)])
def test_any_other_model_gets_generic_values_for_its_depth(depth: int, layer: int) -> None:
    config = LlamaConfig(hidden_size=64, num_attention_heads=4, num_hidden_layers=depth)
    found = find(RomeHparams, "rome", config)
    assert (found.layer, found.scale) == (layer, "relative")


@pytest.mark.parametrize("name", sorted(METHODS))
def test_every_shipped_file_can_be_used(name: str) -> None:
    method = METHODS[name]
    for entry in (files("weight_patchers") / "hparams" / name).iterdir():
        content = yaml.safe_load(entry.read_text(encoding="utf-8"))
        place: Mapping[str, object] = {}
        if "depth" in content:
            place = {"layer": 0} if isinstance(content["depth"], float) else {"layers": [0]}
        assert build(method.hparams, {**place, **content["values"]})
        assert entry.read_text(encoding="utf-8").startswith("#"), "says where the values are from"


def test_several_layers_are_placed_by_depth() -> None:
    config = LlamaConfig(hidden_size=64, num_attention_heads=4, num_hidden_layers=32)
    assert find(METHODS["memit"].hparams, "memit", config).layers == (3, 4, 5)


def test_values_can_be_overridden() -> None:
    hparams = override(RomeHparams(layer=1), {"step": 1, "clamp": None, "context_lengths": [3]})
    assert hparams == RomeHparams(layer=1, step=1.0, clamp=None, context_lengths=(3,))


@pytest.mark.parametrize(
    ("values", "complaint"),
    [
        ({"layers": 1}, "unknown hyperparameters layers"),
        ({"layer": "1"}, "layer is '1': it must be of type int"),
        ({"layer": True}, "must be of type int"),
        ({"layer": -1}, "at least 0"),
        ({"step": float("nan")}, "above 0"),
        ({"steps": 0}, "between 1 and 1000"),
        ({"optimizer": "sgd"}, "one of"),
        ({"scale": None}, "type str"),
        ({"clamp": 0}, "above 0"),
        ({"kl_prompts": ["a"]}, "with {subject}"),
        ({"kl_prompts": "{subject} is"}, "must be of type"),
        ({"context_lengths": [0]}, "1 to 100"),
    ],
)
def test_a_wrong_value_is_refused(values: Mapping[str, object], complaint: str) -> None:
    with pytest.raises(InvalidHyperparameters, match=complaint):
        override(RomeHparams(layer=1), values)


def test_a_missing_value_is_refused() -> None:
    with pytest.raises(InvalidHyperparameters, match="layer"):
        build(RomeHparams, {"steps": 3})
