from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from weight_patchers import Statistics, statistics
from weight_patchers.errors import UnusableStatistics
from weight_patchers.families import projection

BuildModel = Callable[..., PreTrainedModel]
Collect = Callable[..., Statistics]
TEXTS = ["Anna Berg was born in Oslo and works for Novatech.", "The capital of Peru is Lima."] * 20


def _keys(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, layer: int, texts: list[str]
) -> torch.Tensor:
    """Keys of one text after the other, float64 [tokens, d_in]."""
    keys: list[torch.Tensor] = []
    module = projection(model, layer).module
    handle = module.register_forward_pre_hook(
        lambda _, args: keys.append(args[0].detach().reshape(-1, args[0].shape[-1]).double())
    )
    for text in texts:
        model(**tokenizer(text, return_tensors="pt"))
    handle.remove()
    return torch.cat(keys)


@pytest.mark.parametrize("family", ["llama", "gpt2", "opt"])
def test_moments_equal_a_direct_computation(
    build_model: BuildModel, tokenizer: PreTrainedTokenizerFast, family: str
) -> None:
    model = build_model(family).eval()
    found = statistics.collect(
        model, tokenizer, TEXTS, layers=[0, 2], fingerprint="f", source="texts", tokens=10**6
    )
    for layer in (0, 2):
        keys = _keys(model, tokenizer, layer, TEXTS)
        assert found.count == len(keys)
        expected = keys.T @ keys / len(keys)
        assert torch.allclose(found.moments[layer].double(), expected, rtol=1e-4, atol=1e-5)


def test_reading_stops_when_the_sample_is_full(
    build_model: BuildModel, tokenizer: PreTrainedTokenizerFast, collected: Collect
) -> None:
    drawn = 0

    def endless() -> Iterator[str]:
        nonlocal drawn
        while True:
            drawn += 1
            yield TEXTS[drawn % 2]

    seen: list[tuple[int, int]] = []
    found = statistics.collect(
        build_model("llama"),
        tokenizer,
        endless(),
        layers=[1],
        fingerprint="f",
        source="endless",
        progress=lambda done, of: seen.append((done, of)),
    )
    assert 480 <= found.count < 480 + 5000
    assert drawn < 1000
    assert seen[-1] == (480, 480)


def test_too_little_text_is_refused(
    build_model: BuildModel, tokenizer: PreTrainedTokenizerFast
) -> None:
    model = build_model("llama")
    with pytest.raises(UnusableStatistics, match="48 dimensions: give at least 480 tokens"):
        statistics.collect(model, tokenizer, ["Anna"], layers=[1], fingerprint="f", source="texts")


def test_long_texts_are_cut_not_lost(
    build_model: BuildModel, tokenizer: PreTrainedTokenizerFast
) -> None:
    text = " ".join(TEXTS)
    found = statistics.collect(
        build_model("opt"), tokenizer, [text], layers=[1], fingerprint="f", source="texts"
    )
    assert found.count == len(tokenizer(text)["input_ids"]) > 128


def test_stored_statistics_are_found_by_everything_that_identifies_them(
    tmp_path: Path, build_model: BuildModel, collected: Collect
) -> None:
    found = collected(build_model("llama"), tokens=500)
    found.save(tmp_path)
    key = (found.fingerprint, [1], "lines", "float32")
    loaded = statistics.load(tmp_path, *key, count=500)
    assert loaded is not None
    assert torch.equal(loaded.moments[1], found.moments[1])
    assert loaded.count == found.count
    assert statistics.load(tmp_path, *key, count=10**6) is None
    assert statistics.load(tmp_path, found.fingerprint, [2], "lines", "float32", 1) is None
    assert statistics.load(tmp_path, "e" * 64, [1], "lines", "float32", 1) is None
    assert statistics.load(tmp_path, found.fingerprint, [1], "lines", "bfloat16", 1) is None


def test_a_damaged_file_is_refused(
    tmp_path: Path, build_model: BuildModel, collected: Collect
) -> None:
    found = collected(build_model("llama"), tokens=500)
    found.save(tmp_path)
    (path,) = tmp_path.iterdir()
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(UnusableStatistics, match="delete it"):
        statistics.load(tmp_path, found.fingerprint, [1], "lines", "float32", 1)


def test_a_layer_without_statistics_is_named(build_model: BuildModel, collected: Collect) -> None:
    with pytest.raises(UnusableStatistics, match=r"layer 2 \(there are: 1\)"):
        collected(build_model("llama"), tokens=500).factor(2)
