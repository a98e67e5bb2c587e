"""The delta: what a weight method computed, as data.

A delta file is a safetensors file. Its tensors are float32 and named `<parameter>::u` and
`<parameter>::v` (a low-rank change), `<parameter>::update` (a dense one) and
`<parameter>::keys`; its one metadata entry `delta` is a JSON object with everything else and a
SHA-256 checksum over both.
"""

import contextlib
import hashlib
import json
import os
from collections.abc import Container, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as serialize
from torch import Tensor

from weight_patchers.edit import Edit
from weight_patchers.errors import CorruptDelta, PatcherError, WrongBase

FORMAT = 2


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
        """What a delta file holds of it."""
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
        """What a delta file holds of it."""
        return {"update": self.update}


Change: TypeAlias = LowRank | Dense


@dataclass(frozen=True, eq=False)
class Delta:
    """The change of the base with content fingerprint `fingerprint` that serves `edits`.

    `changes` is keyed by the parameter's name in the Hugging Face model, for example
    `model.layers.1.mlp.down_proj.weight`. `hyperparameters` and `diagnostics` hold JSON values.
    `keys` holds, for methods whose later edits must spare earlier ones, the keys [d_in, n] of
    this delta's edits, float32; by parameter, column i for `edits[i]`.
    """

    fingerprint: str
    method: str
    hyperparameters: Mapping[str, Any]
    changes: Mapping[str, Change]
    edits: Sequence[Edit]
    diagnostics: Mapping[str, Any] = field(default_factory=dict)
    keys: Mapping[str, Tensor] = field(default_factory=dict)

    @classmethod
    def nothing(cls, fingerprint: str, method: str, hyperparameters: Mapping[str, Any]) -> "Delta":
        """The delta of no edits, which changes nothing."""
        told = {"relative_norm": {}, "drift": {"mean": 0.0, "max": 0.0}, "edits": []}
        return cls(fingerprint, method, hyperparameters, {}, (), told)

    def require_base(self, fingerprint: str) -> None:
        """Raise WrongBase unless the delta belongs to the base with this fingerprint."""
        if self.fingerprint != fingerprint:
            raise WrongBase(
                f"the delta was computed for the base {self.fingerprint[:12]}…, "
                f"but this model is {fingerprint[:12]}…: compute the edit again for this model"
            )

    def save(self, path: Path) -> None:
        """Write the file whole or not at all, and let it reach the disk before returning."""
        tensors = self._tensors()
        header = {
            "format": FORMAT,
            "fingerprint": self.fingerprint,
            "method": self.method,
            "hyperparameters": dict(self.hyperparameters),
            "edits": [asdict(edit) for edit in self.edits],
            "diagnostics": dict(self.diagnostics),
            "transposed": sorted(name for name, c in self.changes.items() if c.transposed),
        }
        text = json.dumps(header | {"checksum": _checksum(header, tensors)}, sort_keys=True)
        _write_atomically(path, serialize(tensors, metadata={"delta": text}))

    @classmethod
    def load(cls, path: Path) -> "Delta":
        """Read a delta file. Raises CorruptDelta when anything about it is not as written."""
        tensors, header = _read(path)
        if header.get("format") != FORMAT:
            raise CorruptDelta(
                f"{path} has delta format {header.get('format')!r}, this version reads {FORMAT}: "
                "compute the edit again"
            )
        checksum = header.pop("checksum", None)
        if checksum != _checksum(header, tensors):
            raise CorruptDelta(f"the checksum of {path} is wrong: compute the edit again")
        try:
            return cls(
                fingerprint=header["fingerprint"],
                method=header["method"],
                hyperparameters=header["hyperparameters"],
                changes=_changes(tensors, set(header["transposed"])),
                edits=tuple(Edit(**edit) for edit in header["edits"]),
                diagnostics=header["diagnostics"],
                keys={
                    name.removesuffix("::keys"): tensor
                    for name, tensor in tensors.items()
                    if name.endswith("::keys")
                },
            )
        except (KeyError, TypeError, PatcherError) as error:
            raise CorruptDelta(f"{path} is incomplete ({error}): compute the edit again") from error

    def _tensors(self) -> dict[str, Tensor]:
        tensors = {f"{name}::keys": keys for name, keys in self.keys.items()}
        for name, change in self.changes.items():
            tensors |= {f"{name}::{part}": tensor for part, tensor in change.parts().items()}
        return {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}


def _require_finite_matrix(tensor: Tensor) -> None:
    if tensor.ndim != 2:
        raise CorruptDelta(f"a part of shape {tuple(tensor.shape)} is no matrix")
    if tensor.dtype != torch.float32 or not bool(torch.isfinite(tensor).all()):
        raise CorruptDelta("a part is not finite float32: compute the delta again")


def _changes(tensors: Mapping[str, Tensor], transposed: Container[str]) -> dict[str, Change]:
    changes: dict[str, Change] = {}
    for key in sorted(tensors):
        name, _, part = key.rpartition("::")
        if part == "update":
            changes[name] = Dense(tensors[key], name in transposed)
        elif part == "u":
            changes[name] = LowRank(tensors[key], tensors[f"{name}::v"], name in transposed)
    return changes


def _read(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    try:
        with safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            header = json.loads((file.metadata() or {})["delta"])
    except (SafetensorError, OSError, KeyError, ValueError) as error:
        raise CorruptDelta(f"{path} is no readable delta file ({error})") from error
    if not isinstance(header, dict):
        raise CorruptDelta(f"{path} is no readable delta file (its header is no JSON object)")
    return tensors, header


def _checksum(header: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> str:
    digest = hashlib.sha256(json.dumps(header, sort_keys=True).encode())
    for name in sorted(tensors):
        tensor = tensors[name].contiguous()
        digest.update(f"\n{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _write_atomically(path: Path, content: bytes) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            temporary.unlink()
        raise
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
