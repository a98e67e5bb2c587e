"""The file of a trained editor, and where it is found.

A file holds the editor's parameters and buffers; its header names the method, the base's
fingerprint, the hyperparameters, the seed and how it was trained.
"""

from collections.abc import Mapping
from dataclasses import asdict
from importlib.resources import files
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from weight_patchers.checked_file import FileKind
from weight_patchers.errors import CorruptEditor, PatcherError, UntrainedEditor, WrongBase
from weight_patchers.hyperparameters import build
from weight_patchers.trained.editor import TrainedEditor

FORMAT = 1

_KIND = FileKind("trained-editor", FORMAT, CorruptEditor, "train the editor again")
_SHIPPED = Path(str(files("weight_patchers") / "trained" / "shipped"))
_HEADER = {
    "method": str,
    "fingerprint": str,
    "hyperparameters": dict,
    "seed": int,
    "training": dict,
}


def command(method: str) -> str:
    """The command that trains an editor."""
    return f"vllm-edit {method} train MODEL --data DATA"


def file_name(method: str, fingerprint: str) -> str:
    """The name of the file of a method's editor for the base with this fingerprint."""
    return f"{method}-{fingerprint[:16]}.safetensors"


def save(
    path: Path,
    editor: TrainedEditor,
    fingerprint: str,
    seed: int,
    training: Mapping[str, Any],
) -> None:
    """Write the file whole or not at all; float32 becomes float16, statistics stay float64.

    `training` holds JSON values that say how it was trained.
    """
    header = {
        "method": editor.method,
        "fingerprint": fingerprint,
        "hyperparameters": asdict(editor.hparams),
        "seed": seed,
        "training": dict(training),
    }
    _KIND.write(path, {name: _halved(part) for name, part in editor.state_dict().items()}, header)


def load(
    path: Path, kind: type[TrainedEditor], model: PreTrainedModel, fingerprint: str
) -> TrainedEditor:
    """The editor in the file, in float32, for the model with this fingerprint.

    Raises CorruptEditor when anything about the file is not as written, WrongBase when it was
    trained for another base, and UntrainedEditor when it is another method's.
    """
    tensors, header = _KIND.read(path)
    _require_types(path, header)
    if header["method"] != kind.method:
        raise UntrainedEditor(
            f"{path} is an editor of {header['method']}, not of {kind.method}: make one with "
            f"{command(kind.method)}"
        )
    if header["fingerprint"] != fingerprint:
        raise WrongBase(
            f"{path} was trained for the base {header['fingerprint'][:12]}…, but this model is "
            f"{fingerprint[:12]}…: train one for it with {command(kind.method)}"
        )
    try:
        hparams = build(kind.hparams_type, header["hyperparameters"])
        editor = kind.untrained(hparams, model, seed=0)
        editor.load_state_dict(tensors)
    except (TypeError, ValueError, RuntimeError, PatcherError) as error:
        raise CorruptEditor(f"{path} is malformed ({error}): train the editor again") from error
    return editor


def find(
    kind: type[TrainedEditor],
    model: PreTrainedModel,
    fingerprint: str,
    folder: Path | None = None,
) -> TrainedEditor:
    """The editor for the base in the folder, or else the shipped one.

    Raises UntrainedEditor, which names the command, when there is none; and as `load`.
    """
    name = file_name(kind.method, fingerprint)
    for place in (folder, _SHIPPED):
        if place is not None and (place / name).exists():
            return load(place / name, kind, model, fingerprint)
    where = "" if folder is None else f" in {folder}"
    raise UntrainedEditor(
        f"{kind.method} needs an editor trained for this model, and there is none{where}: make one "
        f"with {command(kind.method)}"
    )


def _halved(tensor: Tensor) -> Tensor:
    return tensor.half() if tensor.dtype == torch.float32 else tensor


def _require_types(path: Path, header: Mapping[str, Any]) -> None:
    for name, expected in _HEADER.items():
        if not isinstance(header.get(name), expected):
            raise CorruptEditor(
                f"{path} is malformed (its header has no {expected.__name__} {name!r}): train the "
                "editor again"
            )
