"""A checkpoint whose MLPs get more inner units."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from weight_patchers.delta import Neurons
from weight_patchers.errors import CannotExport, UnsupportedModel, WrongBase
from weight_patchers.export.request import Request, without_weights
from weight_patchers.fingerprint import weight_files
from weight_patchers.model.layers import depth
from weight_patchers.model.mlp import Mlp, mlp

_WIDTHS = ("intermediate_size", "n_inner", "ffn_dim", "ffn_hidden_size")
# So that ranks of a parallel server and its kernels can divide the width as they could before.
_MULTIPLE = 64


@dataclass(frozen=True, eq=False)
class Growth:
    """What is put behind the rows (axis 0) or columns (1) of stored tensors, and the new width.

    A config has one width for all layers, so layers with fewer units get units of zeros, which
    change nothing; the number is rounded up to a multiple of 64. `field` is the width's name in the
    config. A tensor with several pieces is cut into as many equal parts, and each is followed by
    its piece.
    """

    pieces: dict[str, tuple[int, tuple[Tensor, ...]]]
    field: str
    width: int

    @classmethod
    def of(cls, request: Request, stored: Callable[[str], Sequence[str]]) -> "Growth":
        """The growth that a request's extra units need; `stored` gives a parameter's tensors.

        Raises CannotExport when an MLP cannot grow or the config names no width of all MLPs, and
        WrongBase when units do not fit the model.
        """
        try:
            mlps = [
                mlp(request.model, layer, on_meta=True) for layer in range(depth(request.model))
            ]
        except UnsupportedModel as error:
            raise CannotExport(f"extra inner units cannot be merged: {error}") from error
        named = {each.name: each for each in mlps}
        for name, units in request.neurons.items():
            if name not in named or units.gated != named[name].gated:
                raise WrongBase(f"a delta adds units to {name} that do not fit this model")
        count = -(-max(units.count for units in request.neurons.values()) // _MULTIPLE) * _MULTIPLE
        pieces: dict[str, tuple[int, tuple[Tensor, ...]]] = {}
        for each in mlps:
            for name, piece in _pieces(each, request.neurons.get(each.name), count).items():
                pieces |= dict.fromkeys(stored(name), piece)
        inner = mlps[0].output.d_in
        return cls(pieces, _field(request, inner), inner + count)

    def write(self, folder: Path) -> None:
        """Make the checkpoint in `folder` wider, one of its files in memory at a time."""
        path = folder / "config.json"
        config = json.loads(path.read_text(encoding="utf-8")) | {self.field: self.width}
        path.write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
        shapes: dict[str, torch.Size] = {}
        for file in weight_files(folder):
            shapes |= self._write_file(file)
        _require_same(shapes, folder)

    def _write_file(self, path: Path) -> dict[str, torch.Size]:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata()
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        for name in tensors.keys() & self.pieces.keys():
            tensors[name] = _grown(name, tensors[name], *self.pieces[name])
        save_file(tensors, path, metadata=metadata)
        return {name: tensor.shape for name, tensor in tensors.items()}


def _pieces(
    target: Mlp, units: Neurons | None, count: int
) -> dict[str, tuple[int, tuple[Tensor, ...]]]:
    """By parameter: the axis along which it grows and its pieces, with `count` units in all."""
    d = target.output.d_out
    own = {} if units is None else units.parts()
    keys = [_filled(own.get(name), (d, count)) for name in ("gu" if target.gated else "k")]
    biases = [_filled(own.get("b"), (count,)), torch.zeros(count)]
    found = {target.output.name: _laid(target.output.module, _filled(own.get("v"), (d, count)))}
    if target.fused:
        found |= _of_map(target.inner.items(), [tuple(keys)], [tuple(biases)])
        return found
    return found | _of_map(
        target.inner.items(), [(key,) for key in keys], [(bias,) for bias in biases]
    )


def _of_map(
    maps: Any, keys: Sequence[tuple[Tensor, ...]], biases: Sequence[tuple[Tensor, ...]]
) -> dict[str, tuple[int, tuple[Tensor, ...]]]:
    found: dict[str, tuple[int, tuple[Tensor, ...]]] = {}
    for (name, module), own, bias in zip(maps, keys, biases, strict=False):
        axis = 1 if isinstance(module, Conv1D) else 0
        laid = tuple(key if isinstance(module, Conv1D) else key.T for key in own)
        found[f"{name}.weight"] = axis, laid
        if getattr(module, "bias", None) is not None:
            found[f"{name}.bias"] = 0, bias
    return found


def _laid(module: nn.Module, v: Tensor) -> tuple[int, tuple[Tensor, ...]]:
    """The columns of an output projection, in its orientation."""
    return (0, (v.T,)) if isinstance(module, Conv1D) else (1, (v,))


def _filled(part: Tensor | None, shape: tuple[int, ...]) -> Tensor:
    """The part with zeros behind its units."""
    if part is None:
        return torch.zeros(shape)
    return F.pad(part, (0, shape[-1] - part.shape[-1]))


def _grown(name: str, tensor: Tensor, axis: int, pieces: Sequence[Tensor]) -> Tensor:
    cast = [piece.to(tensor.dtype) for piece in pieces]
    if not all(bool(torch.isfinite(piece).all()) for piece in cast):
        raise CannotExport(f"the extra units of {name} have values too large for {tensor.dtype}")
    halves = tensor.chunk(len(cast), axis)
    return torch.cat([part for pair in zip(halves, cast, strict=True) for part in pair], axis)


def _field(request: Request, inner: int) -> str:
    config = request.model.config
    for name in _WIDTHS:
        value = getattr(config, name, None)
        if value == inner or (name == "n_inner" and hasattr(config, name) and value is None):
            return name
    raise CannotExport(
        f"the config of {type(config).__name__} names no width that all MLPs have, so units cannot "
        "be added: serve these edits instead, or leave them out"
    )


def _require_same(shapes: dict[str, torch.Size], folder: Path) -> None:
    """Raise CannotExport unless Transformers makes a model of these shapes of the new config."""
    model = without_weights(folder)
    prefix = f"{model.base_model_prefix}."
    for name, parameter in model.named_parameters():
        for spelling in (name, name.removeprefix(prefix), prefix + name):
            if spelling in shapes and shapes[spelling] != parameter.shape:
                raise CannotExport(
                    f"Transformers would load {name} as {tuple(parameter.shape)}, not as "
                    f"{tuple(shapes[spelling])}: this architecture's MLPs cannot be made wider"
                )
