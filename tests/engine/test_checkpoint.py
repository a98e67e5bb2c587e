"""Pristine tensors are found under the names that checkpoints store them by."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from vllm_edit.domain.errors import Unavailable
from vllm_edit.engine.checkpoint import Checkpoint

NAME = "transformer.h.0.mlp.c_proj.weight"


@pytest.mark.parametrize("stored", [NAME, NAME.removeprefix("transformer.")])
@pytest.mark.parametrize("file", ["model.safetensors", "model-00001-of-00001.safetensors"])
def test_a_tensor_is_found_with_or_without_the_model_s_prefix(
    stored: str, file: str, tmp_path: Path
) -> None:
    weight = torch.arange(6.0).reshape(2, 3).half()
    save_file({stored: weight}, tmp_path / file)
    if file != "model.safetensors":
        index = {"weight_map": {stored: file}}
        (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    found = Checkpoint(tmp_path).tensor(NAME)
    assert torch.equal(found, weight)
    assert found.dtype == torch.float16


def test_a_missing_tensor_is_named(tmp_path: Path) -> None:
    save_file({"lm_head.weight": torch.ones(1)}, tmp_path / "model.safetensors")
    with pytest.raises(Unavailable, match="'transformer"):
        Checkpoint(tmp_path).tensor(NAME)
    with pytest.raises(Unavailable, match="'weight'"):
        Checkpoint(tmp_path).tensor("weight")
    with pytest.raises(Unavailable, match="no safetensors"):
        Checkpoint(tmp_path / "nowhere")
