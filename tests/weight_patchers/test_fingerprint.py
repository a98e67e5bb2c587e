import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from weight_patchers import fingerprint
from weight_patchers.errors import UnreadableCheckpoint


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    folder.mkdir()
    save_file({"weight": torch.arange(6.0)}, folder / "model.safetensors")
    config = {"model_type": "llama", "transformers_version": "5.0"}
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def test_a_copy_has_the_same_fingerprint(checkpoint: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(checkpoint, tmp_path / "copy")
    config = {"transformers_version": "5.1", "model_type": "llama"}
    (copy / "config.json").write_text(json.dumps(config))
    (copy / "README.md").write_text("hello")
    assert fingerprint(copy) == fingerprint(checkpoint)
    assert len(fingerprint(copy)) == 64


def test_other_weights_or_config_have_another(checkpoint: Path) -> None:
    first = fingerprint(checkpoint)
    save_file({"weight": torch.arange(6.0) + 1e-6}, checkpoint / "model.safetensors")
    second = fingerprint(checkpoint)
    (checkpoint / "config.json").write_text(json.dumps({"model_type": "gpt2"}))
    assert len({first, second, fingerprint(checkpoint)}) == 3


def test_only_the_shards_of_the_index_count(checkpoint: Path) -> None:
    (checkpoint / "model.safetensors").rename(checkpoint / "model-1.safetensors")
    index = {"weight_map": {"weight": "model-1.safetensors"}}
    (checkpoint / "model.safetensors.index.json").write_text(json.dumps(index))
    first = fingerprint(checkpoint)
    save_file({"other": torch.zeros(1)}, checkpoint / "consolidated.safetensors")
    assert fingerprint(checkpoint) == first
    (checkpoint / "model-1.safetensors").unlink()
    with pytest.raises(UnreadableCheckpoint, match=r"lacks model-1\.safetensors"):
        fingerprint(checkpoint)


def test_what_is_no_checkpoint_is_refused(checkpoint: Path) -> None:
    (checkpoint / "model.safetensors").unlink()
    with pytest.raises(UnreadableCheckpoint, match="no safetensors"):
        fingerprint(checkpoint)
    (checkpoint / "config.json").write_text("{")
    with pytest.raises(UnreadableCheckpoint, match="not valid JSON"):
        fingerprint(checkpoint)
    (checkpoint / "config.json").unlink()
    with pytest.raises(UnreadableCheckpoint, match=r"no config\.json"):
        fingerprint(checkpoint)
