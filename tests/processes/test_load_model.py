"""What `vllm_edit.processes.load_model.load` gives, and what it refuses."""

import shutil
from pathlib import Path

import pytest
import torch

from vllm_edit import factworld
from vllm_edit.domain.errors import Unavailable
from vllm_edit.processes.load_model import load


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy of the bundled checkpoint."""
    return Path(shutil.copytree(factworld.checkpoint(), tmp_path / "model"))


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_model_and_its_tokenizer_are_loaded(dtype: str) -> None:
    model, tokenizer = load(factworld.checkpoint(), "cpu", dtype)
    assert not model.training
    assert model.dtype == getattr(torch, dtype)
    assert len(tokenizer) == model.config.vocab_size


@pytest.mark.parametrize(
    "missing",
    [("config.json",), ("model.safetensors",), ("tokenizer.json", "tokenizer_config.json")],
)
def test_a_folder_without_one_of_them_is_refused(folder: Path, missing: tuple[str, ...]) -> None:
    for name in missing:
        (folder / name).unlink()
    with pytest.raises(Unavailable, match="Transformers cannot load"):
        load(folder, "cpu")


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "tokenizer.json"])
def test_a_damaged_file_is_refused(folder: Path, name: str) -> None:
    (folder / name).write_bytes((folder / name).read_bytes()[:-100])
    with pytest.raises(Unavailable, match="Transformers cannot load"):
        load(folder, "cpu")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_a_device_that_is_not_there_is_refused() -> None:
    with pytest.raises(Unavailable, match="no CUDA device"):
        load(factworld.checkpoint(), "cuda")
