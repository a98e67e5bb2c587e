"""The delta: what a weight method computed, as data.

A delta file holds it as float32 tensors named `<parameter>::u` and `<parameter>::v` (a low-rank
change), `<parameter>::update` (a dense one) and `<parameter>::keys`, or `<module>::<part>` for each
part of extra units, and everything else in its header.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

import torch
from torch import Tensor

from weight_patchers import delta_file
from weight_patchers.edit import Edit
from weight_patchers.errors import CorruptDelta, PatcherError, WrongBase


@dataclass(frozen=True, eq=False)
class LowRank:
    """A low-rank update of one linear map: W' = W + u v^T.

    u is [d_out, r], v is [d_in, r], both float32, finite and on the CPU; W is [d_out, d_in], as
    nn.Linear stores it. `transposed` says that the checkpoint stores W^T, [d_in, d_out], as
    GPT-2's Conv1D does. Raises CorruptDelta when the factors do not fit each other.
    """

    u: Tensor
    v: Tensor
    transposed: bool = False

    def __post_init__(self) -> None:
        _require_finite(self.u)
        _require_finite(self.v)
        if self.u.shape[1] != self.v.shape[1]:
            raise CorruptDelta(
                f"factors of shapes {tuple(self.u.shape)} and {tuple(self.v.shape)} do not fit"
            )

    @property
    def rank(self) -> int:
        return self.u.shape[1]

    @property
    def shape(self) -> tuple[int, int]:
        """(d_out, d_in), whatever the checkpoint's orientation."""
        return self.u.shape[0], self.v.shape[0]

    def dense(self) -> Tensor:
        """The update u v^T, float32 [d_out, d_in], whatever the checkpoint's orientation."""
        return self.u @ self.v.T

    def parts(self) -> dict[str, Tensor]:
        """The tensors that a delta file holds for it."""
        return {"u": self.u, "v": self.v}


@dataclass(frozen=True, eq=False)
class Dense:
    """A full update of one linear map: W' = W + update, as fine-tuning makes it.

    `update` is [d_out, d_in], float32, finite and on the CPU; `transposed` as in `LowRank`.
    """

    update: Tensor
    transposed: bool = False

    def __post_init__(self) -> None:
        _require_finite(self.update)

    @property
    def shape(self) -> tuple[int, int]:
        """(d_out, d_in), whatever the checkpoint's orientation."""
        return self.update.shape[0], self.update.shape[1]

    def dense(self) -> Tensor:
        """The update, float32 [d_out, d_in], whatever the checkpoint's orientation."""
        return self.update

    def parts(self) -> dict[str, Tensor]:
        """The tensors that a delta file holds for it."""
        return {"update": self.update}


@dataclass(frozen=True, eq=False)
class Neurons:
    """Extra inner units of one MLP: MLP'(h) = MLP(h) + v a(h), with a(h) [r] as the MLP has it.

    In a plain MLP a(h) = act(k^T h + b), with k [d, r] and b [r] (None: without a bias); in a gated
    one a(h) = act(g^T h) * (u^T h), with g and u [d, r]. `v` is [d, r]. d is the width of the
    residual stream and act the model's own activation. All is float32, finite and on the CPU.
    Raises CorruptDelta when the parts are of neither form, or do not fit each other.
    """

    v: Tensor
    k: Tensor | None = None
    b: Tensor | None = None
    g: Tensor | None = None
    u: Tensor | None = None

    def __post_init__(self) -> None:
        parts = self.parts()
        if parts.keys() not in _NEURONS:
            raise CorruptDelta(f"extra units have the parts {sorted(parts)}: {_NEURONS_NEED}")
        for name, part in parts.items():
            _require_finite(part, 1 if name == "b" else 2)
            wanted = self.v.shape[1:] if name == "b" else self.v.shape
            if part.shape != wanted:
                raise CorruptDelta(
                    f"{name} of extra units has shape {tuple(part.shape)}, but v has "
                    f"{tuple(self.v.shape)}"
                )

    @property
    def count(self) -> int:
        """How many units they are, r."""
        return self.v.shape[1]

    @property
    def width(self) -> int:
        """The width of the residual stream, d."""
        return self.v.shape[0]

    @property
    def gated(self) -> bool:
        """Whether they are units of a gated MLP."""
        return self.g is not None

    def parts(self) -> dict[str, Tensor]:
        """The tensors that a delta file holds for it."""
        return {name: part for name, part in vars(self).items() if part is not None}


ParameterChange: TypeAlias = LowRank | Dense
"""A change of one matrix."""

Change: TypeAlias = ParameterChange | Neurons


@dataclass(frozen=True, eq=False)
class Delta:
    """The change of the base with content fingerprint `fingerprint` that serves `edits`.

    `changes` is keyed by names of the Hugging Face model: a change of a matrix by its parameter's,
    for example `model.layers.1.mlp.down_proj.weight`, and extra units by that of the module which
    holds the MLP's output projection, for example `model.layers.1.mlp`. `hyperparameters` and
    `diagnostics` hold JSON values.
    `keys` holds, for methods whose later edits must preserve earlier ones, the keys of this delta's
    n edits, [d_in, n] or several of each, [d_in, m n], float32, finite and on the CPU; by changed
    parameter, column i for `edits[i % n]`. Raises CorruptDelta when they do not fit the changes
    and the edits.
    """

    fingerprint: str
    method: str
    hyperparameters: Mapping[str, Any]
    changes: Mapping[str, Change]
    edits: Sequence[Edit]
    diagnostics: Mapping[str, Any] = field(default_factory=dict)
    keys: Mapping[str, Tensor] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, keys in self.keys.items():
            _require_finite(keys)
            if name not in self.matrices:
                raise CorruptDelta(f"there are keys of {name}, but no change of it")
            width, edits = self.matrices[name].shape[1], len(self.edits)
            rows, columns = keys.shape
            if rows != width or not (columns and edits) or columns % edits:
                raise CorruptDelta(
                    f"keys of shape {tuple(keys.shape)} for {name}: it needs {(width, edits)}, or "
                    "a multiple of these columns"
                )

    @classmethod
    def nothing(cls, fingerprint: str, method: str, hyperparameters: Mapping[str, Any]) -> "Delta":
        """The delta of no edits, which changes nothing."""
        diagnostics = {"relative_norm": {}, "drift": {"mean": 0.0, "max": 0.0}, "edits": []}
        return cls(fingerprint, method, hyperparameters, {}, (), diagnostics)

    @property
    def matrices(self) -> dict[str, ParameterChange]:
        """The changes of matrices, by parameter."""
        return {name: c for name, c in self.changes.items() if not isinstance(c, Neurons)}

    @property
    def neurons(self) -> dict[str, Neurons]:
        """The extra units, by module."""
        return {name: c for name, c in self.changes.items() if isinstance(c, Neurons)}

    def require_base(self, fingerprint: str) -> None:
        """Raise WrongBase unless the delta belongs to the base with this fingerprint."""
        if self.fingerprint != fingerprint:
            raise WrongBase(
                f"the delta was computed for the base {self.fingerprint[:12]}…, "
                f"but this model is {fingerprint[:12]}…: compute the edit again for this model"
            )

    def save(self, path: Path) -> None:
        """Write the file whole or not at all; it is on disk when this returns."""
        header = {
            "fingerprint": self.fingerprint,
            "method": self.method,
            "hyperparameters": dict(self.hyperparameters),
            "edits": [asdict(edit) for edit in self.edits],
            "diagnostics": dict(self.diagnostics),
            "transposed": sorted(name for name, c in self.matrices.items() if c.transposed),
        }
        delta_file.write(path, self._tensors(), header)

    @classmethod
    def load(cls, path: Path) -> "Delta":
        """Read a delta file. Raises CorruptDelta when anything about it is not as written."""
        tensors, header = delta_file.read(path)
        try:
            _require_types(header)
            changes, keys = _changes_and_keys(tensors, header["transposed"])
            return cls(
                fingerprint=header["fingerprint"],
                method=header["method"],
                hyperparameters=header["hyperparameters"],
                changes=changes,
                edits=tuple(Edit(**edit) for edit in header["edits"]),
                diagnostics=header["diagnostics"],
                keys=keys,
            )
        except (TypeError, PatcherError) as error:
            raise CorruptDelta(f"{path} is malformed ({error}): compute the edit again") from error

    def _tensors(self) -> dict[str, Tensor]:
        tensors = {f"{name}::keys": keys for name, keys in self.keys.items()}
        for name, change in self.changes.items():
            tensors |= {f"{name}::{part}": tensor for part, tensor in change.parts().items()}
        return tensors


_PARTS = ("u", "v", "update", "keys", "k", "b", "g")
_NEURONS = ({"k", "v"}, {"k", "b", "v"}, {"g", "u", "v"})
_NEURONS_NEED = "they need k and v, with or without b, or g, u and v"
_HEADER = {
    "fingerprint": str,
    "method": str,
    "hyperparameters": dict,
    "edits": list,
    "diagnostics": dict,
    "transposed": list,
}


def _require_finite(tensor: Tensor, dimensions: int = 2) -> None:
    if tensor.ndim != dimensions:
        kind = "matrix" if dimensions == 2 else "vector"
        raise CorruptDelta(f"a part of shape {tuple(tensor.shape)} is no {kind}")
    if tensor.dtype != torch.float32 or not bool(torch.isfinite(tensor).all()):
        raise CorruptDelta("a part is not finite float32: compute the delta again")


def _require_types(header: Mapping[str, Any]) -> None:
    for name, kind in _HEADER.items():
        if not isinstance(header.get(name), kind):
            raise CorruptDelta(f"its header has no {kind.__name__} {name!r}")


def _changes_and_keys(
    tensors: Mapping[str, Tensor], transposed: Sequence[str]
) -> tuple[dict[str, Change], dict[str, Tensor]]:
    """Changes and keys by name, from a file's tensors and the names of transposed changes."""
    parts: dict[str, dict[str, Tensor]] = {}
    for name in sorted(tensors):
        parameter, _, part = name.rpartition("::")
        if not parameter or part not in _PARTS:
            raise CorruptDelta(f"the tensor {name!r} is no part of a delta")
        parts.setdefault(parameter, {})[part] = tensors[name]
    keys = {name: own.pop("keys") for name, own in parts.items() if "keys" in own}
    changes = {name: _change(name, own, name in transposed) for name, own in parts.items()}
    matrices = {name for name, change in changes.items() if not isinstance(change, Neurons)}
    if not matrices >= set(transposed):
        raise CorruptDelta("a transposed change is missing")
    return changes, keys


def _change(name: str, parts: Mapping[str, Tensor], transposed: bool) -> Change:
    if parts.keys() == {"u", "v"}:
        return LowRank(parts["u"], parts["v"], transposed)
    if parts.keys() == {"update"}:
        return Dense(parts["update"], transposed)
    if parts.keys() in _NEURONS:
        return Neurons(**parts)
    raise CorruptDelta(
        f"{name} has the parts {sorted(parts)}: a matrix needs u and v, or update; for extra "
        f"units, {_NEURONS_NEED}"
    )
