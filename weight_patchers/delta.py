"""The delta: what a weight method computed, as data.

A delta file is a safetensors file. Its tensors are the factors, float32, named
`<parameter>::u` and `<parameter>::v`; its one metadata entry `delta` is a JSON object with
everything else and a SHA-256 checksum over both.
"""

import contextlib
import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as serialize
from torch import Tensor

from weight_patchers.edit import Edit
from weight_patchers.errors import CorruptDelta, PatcherError, WrongBase

FORMAT = 1


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
        if self.u.ndim != 2 or self.v.ndim != 2 or self.u.shape[1] != self.v.shape[1]:
            raise CorruptDelta(
                f"factors of shapes {tuple(self.u.shape)} and {tuple(self.v.shape)} do not fit"
            )
        for factor in (self.u, self.v):
            if factor.dtype != torch.float32 or not bool(torch.isfinite(factor).all()):
                raise CorruptDelta("a factor is not finite float32: compute the delta again")

    @property
    def rank(self) -> int:
        return self.u.shape[1]

    def dense(self) -> Tensor:
        """The update u v^T, float32 [d_out, d_in], whatever the checkpoint's orientation."""
        return self.u @ self.v.T


@dataclass(frozen=True, eq=False)
class Delta:
    """The change of the base with content fingerprint `fingerprint` that serves `edits`.

    `factors` is keyed by the parameter's name in the Hugging Face model, for example
    `model.layers.1.mlp.down_proj.weight`. `hyperparameters` and `diagnostics` hold JSON values.
    """

    fingerprint: str
    method: str
    hyperparameters: Mapping[str, Any]
    factors: Mapping[str, LowRank]
    edits: Sequence[Edit]
    diagnostics: Mapping[str, Any] = field(default_factory=dict)

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
            "transposed": sorted(name for name, f in self.factors.items() if f.transposed),
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
            transposed = set(header["transposed"])
            names = {name.rpartition("::")[0] for name in tensors}
            return cls(
                fingerprint=header["fingerprint"],
                method=header["method"],
                hyperparameters=header["hyperparameters"],
                factors={
                    name: LowRank(tensors[f"{name}::u"], tensors[f"{name}::v"], name in transposed)
                    for name in sorted(names)
                },
                edits=tuple(Edit(**edit) for edit in header["edits"]),
                diagnostics=header["diagnostics"],
            )
        except (KeyError, TypeError, PatcherError) as error:
            raise CorruptDelta(f"{path} is incomplete ({error}): compute the edit again") from error

    def _tensors(self) -> dict[str, Tensor]:
        tensors = {}
        for name, factor in self.factors.items():
            tensors[f"{name}::u"] = factor.u.detach().cpu().contiguous()
            tensors[f"{name}::v"] = factor.v.detach().cpu().contiguous()
        return tensors


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
