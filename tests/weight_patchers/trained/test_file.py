"""The file of a trained editor: what is read is what was written, or refused with a remedy."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from tests.weight_patchers.conftest import FINGERPRINT
from tests.weight_patchers.trained.editors import untrained
from weight_patchers import METHODS, Edit, Statistics
from weight_patchers.errors import CorruptEditor, PatcherError, UntrainedEditor, WrongBase
from weight_patchers.hyperparameters import build
from weight_patchers.trained import file
from weight_patchers.trained.editor import TrainedEditor

BuildModel = Callable[..., PreTrainedModel]
VALUES: dict[str, dict[str, Any]] = {
    "mend": {"layers": (0, 1), "rank": 8, "chat": False},
    "ke": {"layers": (0, 1), "hidden": 8, "condition": 8, "inner": 8, "chat": False},
}
EDIT = Edit("The capital of France is", "France", "Oslo")


@pytest.fixture(params=sorted(VALUES))
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def model(build_model: BuildModel) -> PreTrainedModel:
    return build_model("llama").eval()


@pytest.fixture
def editor(name: str, model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast) -> TrainedEditor:
    method = METHODS[name]
    return untrained(method, build(method.hparams, VALUES[name]), model, tokenizer)


@pytest.fixture
def path(tmp_path: Path, name: str, editor: TrainedEditor) -> Path:
    written = tmp_path / file.file_name(name, FINGERPRINT)
    file.save(written, editor, FINGERPRINT, 3, {"steps": 0})
    return written


def rewrite(path: Path, **values: object) -> None:
    """Replace fields of the header; the checksum stays."""
    with safe_open(path, framework="pt") as opened:
        tensors = {key: opened.get_tensor(key) for key in opened.keys()}  # noqa: SIM118
        header = json.loads(opened.metadata()["trained-editor"])
    save_file(tensors, path, metadata={"trained-editor": json.dumps(header | values)})


def test_what_is_written_is_read(
    path: Path, name: str, editor: TrainedEditor, model: PreTrainedModel
) -> None:
    kind = METHODS[name].editor
    assert kind is not None
    read = file.find(kind, model, FINGERPRINT, path.parent)
    assert read.hparams == editor.hparams
    for key, tensor in editor.state_dict().items():
        stored = tensor.half().float() if tensor.dtype == torch.float32 else tensor
        assert torch.equal(read.state_dict()[key], stored)


def test_it_serves_its_base_only(path: Path, name: str, model: PreTrainedModel) -> None:
    kind = METHODS[name].editor
    assert kind is not None
    with pytest.raises(WrongBase, match=f"vllm-edit {name} train"):
        file.load(path, kind, model, "1" * 64)
    with pytest.raises(UntrainedEditor, match=f"vllm-edit {name} train"):
        file.find(kind, model, "1" * 64, path.parent)


def test_it_serves_its_method_only(path: Path, name: str, model: PreTrainedModel) -> None:
    (other,) = VALUES.keys() - {name}
    kind = METHODS[other].editor
    assert kind is not None
    with pytest.raises(UntrainedEditor, match=f"vllm-edit {other} train"):
        file.load(path, kind, model, FINGERPRINT)


@pytest.mark.parametrize(
    ("values", "complaint"),
    [
        ({"seed": 4}, "checksum"),
        ({"format": 0}, "this version reads 1: train the editor again"),
    ],
)
def test_a_changed_file_is_refused(
    path: Path, name: str, model: PreTrainedModel, values: dict[str, object], complaint: str
) -> None:
    rewrite(path, **values)
    kind = METHODS[name].editor
    assert kind is not None
    with pytest.raises(CorruptEditor, match=complaint):
        file.load(path, kind, model, FINGERPRINT)


def test_a_damaged_file_is_refused(path: Path, name: str, model: PreTrainedModel) -> None:
    kind = METHODS[name].editor
    assert kind is not None
    content = bytearray(path.read_bytes())
    content[-5] ^= 1
    path.write_bytes(content)
    with pytest.raises(CorruptEditor, match="checksum"):
        file.load(path, kind, model, FINGERPRINT)
    path.write_bytes(content[:100])
    with pytest.raises(CorruptEditor, match="no readable"):
        file.load(path, kind, model, FINGERPRINT)


def test_an_editor_of_another_shape_is_refused(
    path: Path, name: str, build_model: BuildModel
) -> None:
    kind = METHODS[name].editor
    assert kind is not None
    with pytest.raises(CorruptEditor, match="malformed"):
        file.load(path, kind, build_model("gpt2"), FINGERPRINT)


def test_without_a_trained_editor_the_command_is_named(
    name: str, model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast
) -> None:
    method = METHODS[name]
    hparams = build(method.hparams, VALUES[name])
    base = Statistics(FINGERPRINT, "none", 0, "float32", {})
    with pytest.raises(PatcherError, match=f"vllm-edit {name} train MODEL") as raised:
        method.compute(model, tokenizer, [EDIT], hparams, base)
    assert raised.value.code == "untrained_editor"


def test_an_editor_that_was_trained_otherwise_is_refused(
    name: str, editor: TrainedEditor, model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast
) -> None:
    method = METHODS[name]
    base = Statistics(FINGERPRINT, "none", 0, "float32", {})
    other = build(method.hparams, VALUES[name] | {"layers": (1, 2)})
    with pytest.raises(UntrainedEditor, match=r"trained with layers \(0, 1\), not \(1, 2\)"):
        method.compute(model, tokenizer, [EDIT], other, base, trained=editor)
