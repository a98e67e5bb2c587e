"""Deltas merged into a checkpoint of their base."""

import json
import shutil
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

import torch
from safetensors import safe_open
from torch import Tensor

from weight_patchers.delta import Delta
from weight_patchers.delta_sum import DeltaSum
from weight_patchers.errors import CannotExport
from weight_patchers.export.folder import whole
from weight_patchers.export.growth import Growth
from weight_patchers.export.request import Request
from weight_patchers.fingerprint import weight_files

# Weights in formats that are not edited: a copy would still be the base's.
_OTHER_WEIGHTS = frozenset(
    ".bin .ckpt .gguf .h5 .msgpack .onnx .ot .pt .pth .safetensors .tflite".split()
)


def to_checkpoint(deltas: Sequence[Delta], base: Path, output: Path) -> None:
    """Write the checkpoint folder `base` to `output` with the deltas merged into its weights.

    Changed tensors are cast(base + Σ deltas, summed in float32) in the base's own dtype,
    orientation and file; all other bytes of the weights are copied, and so are all other files
    except hidden ones and weights in formats other than safetensors. Holds one tensor in memory
    at a time. The folder is written whole or not at all. Extra units make the MLPs of all layers
    wider, and the config says so (`Growth`).

    Raises WrongBase for a delta of another base, CorruptDelta for one that does not fit it,
    UnreadableCheckpoint for a folder that is none, and CannotExport when there is nothing to
    write, the output is in the way, a value is too large for the base's dtype, or the
    architecture has no one width that all its MLPs share.
    """
    request = Request.of(deltas, base)
    files = _files_by_tensor(base)
    stored = {name: _stored(request, name, files) for name in request.changes}
    growth = Growth.of(request, partial(_stored, request, files=files)) if request.neurons else None
    if output.resolve().is_relative_to(base.resolve()):
        raise CannotExport(f"{output} is in the base's own folder: name one outside of it")
    with whole(output) as folder:
        _copy(base, folder)
        for parameter, tensors in stored.items():
            change = request.sum(parameter)
            for tensor in tensors:
                _add(folder / files[tensor].relative_to(base), tensor, change)
        if growth is not None:
            growth.write(folder)


def _files_by_tensor(base: Path) -> dict[str, Path]:
    files: dict[str, Path] = {}
    for path in weight_files(base):
        with safe_open(path, framework="pt") as file:
            files |= dict.fromkeys(file.keys(), path)
    return files


def _stored(request: Request, parameter: str, files: Mapping[str, Path]) -> list[str]:
    """The names under which the checkpoint stores a parameter: one, or several if it is tied.

    A checkpoint may have been saved from the model without its head: then its names lack the
    prefix (`h.0…` for `transformer.h.0…`), or it has one too many.
    """
    prefix = f"{request.model.base_model_prefix}."
    tensors = []
    for name in request.names(parameter):
        spellings = (name, name.removeprefix(prefix), prefix + name)
        tensors += [spelling for spelling in dict.fromkeys(spellings) if spelling in files][:1]
    if not tensors:
        raise CannotExport(
            f"the checkpoint stores no tensor {parameter}: save the model again with "
            "save_pretrained and compute the edit for that folder"
        )
    return tensors


def _copy(base: Path, folder: Path) -> None:
    """Copy what belongs in the merged checkpoint; links into a cache become files."""
    weights = weight_files(base)
    for path in base.rglob("*"):
        relative = path.relative_to(base)
        hidden = any(part.startswith(".") for part in relative.parts)
        if path in weights or (path.is_file() and not hidden and not _is_other_weights(path)):
            target = folder / relative
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target)


def _is_other_weights(path: Path) -> bool:
    return path.suffix in _OTHER_WEIGHTS or path.name.endswith(".bin.index.json")


def _add(path: Path, name: str, change: DeltaSum) -> None:
    """Add the change to one tensor of a safetensors file, in float32 and in the tensor's place."""
    with safe_open(path, framework="pt") as file:
        base: Tensor = file.get_tensor(name)
    changed = change.added_to(base).to(base.dtype)
    if not bool(torch.isfinite(changed).all()):
        raise CannotExport(f"the edited {name} has values too large for {base.dtype}")
    with path.open("r+b") as stream:
        # The format: the header's length in 8 bytes, the header as JSON, then the tensors.
        length = int.from_bytes(stream.read(8), "little")
        start, _ = json.loads(stream.read(length))[name]["data_offsets"]
        stream.seek(8 + length + start)
        stream.write(changed.contiguous().reshape(-1).view(torch.uint8).numpy().data)
