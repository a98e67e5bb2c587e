"""The search space: whatever is tried is valid for the method and the model."""

import random

import pytest
from transformers import PretrainedConfig

from weight_patchers.hyperparameters import build
from weight_patchers.methods import METHODS
from weight_patchers.tuning.space import Space

CONFIGS = {
    "gpt2": {"hidden_size": 768, "num_hidden_layers": 12},
    "llama": {"hidden_size": 4096, "num_hidden_layers": 32, "intermediate_size": 14336},
    "tiny": {"hidden_size": 32, "num_hidden_layers": 2},
}


@pytest.fixture(params=CONFIGS)
def config(request: pytest.FixtureRequest) -> PretrainedConfig:
    return PretrainedConfig(**CONFIGS[request.param])


@pytest.mark.parametrize("method", METHODS)
def test_what_is_tried_is_valid(method: str, config: PretrainedConfig) -> None:
    space = Space.of(method, config, chat=True)
    starts = space.starts(random.Random(0))
    assert starts
    kind = METHODS[method].hparams
    for start in starts:
        for number in range(len(space.ladder)):
            hparams = build(kind, space.on_rung(start, number))
            assert all(0 <= layer < config.num_hidden_layers for layer in hparams.layers)
    valid = space.valid(starts[0])
    assert valid is not None
    changes = list(space.changes(valid))
    assert len(changes) > 2
    for change in changes:
        assert change != valid
        build(kind, change)


@pytest.mark.parametrize(
    "method", [name for name in METHODS if name not in ("t-patcher", "calinet")]
)
def test_the_chat_template_is_varied_where_there_is_one(method: str) -> None:
    config = PretrainedConfig(**CONFIGS["llama"])
    tried = {}
    for chat in (True, False):
        space = Space.of(method, config, chat=chat)
        tried[chat] = [change["chat"] for change in space.changes(space.present)]
    assert False in tried[True]
    assert len(set(tried[False])) == 1


def test_a_rung_is_found_by_its_ratio() -> None:
    space = Space.of("memit", PretrainedConfig(**CONFIGS["llama"]), chat=False)
    for number, value in enumerate(space.ladder):
        assert space.nearest_rung({**space.present, "covariance_weight": value}) == number
