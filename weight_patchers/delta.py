"""The delta: what a weight method computed, as data.

A delta file holds it as float32 tensors named `<parameter>::u` and `<parameter>::v` (a low-rank
change), `<parameter>::update` (a dense one) and `<parameter>::keys`, and everything else in its
header.
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
        _require_finite_matrix(self.u)
        _require_finite_matrix(self.v)
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
        _require_finite_matrix(self.update)

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


ParameterChange: TypeAlias = LowRank | Dense


@dataclass(frozen=True, eq=False)
class Delta:
    """The change of the base with content fingerprint `fingerprint` that serves `edits`.

    `changes` is keyed by the parameter's name in the Hugging Face model, for example
    `model.layers.1.mlp.down_proj.weight`. `hyperparameters` and `diagnostics` hold JSON values.
    `keys` holds, for methods whose later edits must preserve earlier ones, the keys of this delta's
    n edits, [d_in, n] or several of each, [d_in, m n], float32, finite and on the CPU; by changed
    parameter, column i for `edits[i % n]`. Raises CorruptDelta when they do not fit the changes
    and the edits.
    """

    fingerprint: str
    method: str
    hyperparameters: Mapping[str, Any]
    changes: Mapping[str, ParameterChange]
    edits: Sequence[Edit]
    diagnostics: Mapping[str, Any] = field(default_factory=dict)
    keys: Mapping[str, Tensor] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, keys in self.keys.items():
            _require_finite_matrix(keys)
            if name not in self.changes:
                raise CorruptDelta(f"there are keys of {name}, but no change of it")
            width, edits = self.changes[name].shape[1], len(self.edits)
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
            "transposed": sorted(name for name, c in self.changes.items() if c.transposed),
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


_PARTS = ("u", "v", "update", "keys")
_HEADER = {
    "fingerprint": str,
    "method": str,
    "hyperparameters": dict,
    "edits": list,
    "diagnostics": dict,
    "transposed": list,
}


def _require_finite_matrix(tensor: Tensor) -> None:
    if tensor.ndim != 2:
        raise CorruptDelta(f"a part of shape {tuple(tensor.shape)} is no matrix")
    if tensor.dtype != torch.float32 or not bool(torch.isfinite(tensor).all()):
        raise CorruptDelta("a part is not finite float32: compute the delta again")


def _require_types(header: Mapping[str, Any]) -> None:
    for name, kind in _HEADER.items():
        if not isinstance(header.get(name), kind):
            raise CorruptDelta(f"its header has no {kind.__name__} {name!r}")


def _changes_and_keys(
    tensors: Mapping[str, Tensor], transposed: Sequence[str]
) -> tuple[dict[str, ParameterChange], dict[str, Tensor]]:
    """Changes and keys by parameter, from a file's tensors and the names of transposed changes."""
    parts: dict[str, dict[str, Tensor]] = {}
    for name in sorted(tensors):
        parameter, _, part = name.rpartition("::")
        if not parameter or part not in _PARTS:
            raise CorruptDelta(f"the tensor {name!r} is no part of a delta")
        parts.setdefault(parameter, {})[part] = tensors[name]
    keys = {name: own.pop("keys") for name, own in parts.items() if "keys" in own}
    changes = {name: _change(name, own, name in transposed) for name, own in parts.items()}
    if not changes.keys() >= set(transposed):
        raise CorruptDelta("a transposed change is missing")
    return changes, keys


def _change(name: str, parts: Mapping[str, Tensor], transposed: bool) -> ParameterChange:
    if parts.keys() == {"u", "v"}:
        return LowRank(parts["u"], parts["v"], transposed)
    if parts.keys() == {"update"}:
        return Dense(parts["update"], transposed)
    raise CorruptDelta(f"{name} has the parts {sorted(parts)}: it needs u and v, or update")
