"""The bytes of one swap: for every parameter it touches, the sum of all live deltas."""

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce

import torch
from safetensors.torch import load, save

from vllm_edit.domain.errors import SwapFailed
from weight_patchers import Delta, Dense, ParameterChange

CHUNK = 1 << 20
"""Bytes sent in one call: between two steps of the engine, each takes about a millisecond."""


@dataclass(frozen=True)
class Update:
    """One parameter's live change in the checkpoint's own orientation.

    W' = W + left rightᵀ + dense. ``left`` is [rows of W, r], ``right`` [columns of W, r] and
    ``dense``, if there is one, [rows, columns], all float32. Neither rank nor dense part stands
    for the pristine tensor.
    """

    left: torch.Tensor
    right: torch.Tensor
    dense: torch.Tensor | None = None

    @classmethod
    def of_dense(cls, dense: torch.Tensor) -> "Update":
        rows, columns = dense.shape
        return cls(torch.empty(rows, 0), torch.empty(columns, 0), dense)

    @property
    def shape(self) -> tuple[int, int]:
        """The shape of W."""
        return self.left.shape[0], self.right.shape[0]

    @property
    def is_pristine(self) -> bool:
        return self.left.shape[1] == 0 and self.dense is None

    def added_to(self, base: torch.Tensor) -> torch.Tensor:
        """W' in float32; ``base`` is W, of this update's shape and any dtype."""
        total = self.left @ self.right.T
        if self.dense is not None:
            total += self.dense
        return total.add_(base)

    def content(self) -> bytes:
        """A digest of all values, which puts updates into an order of their own."""
        digest = hashlib.sha256()
        for part in (self.left, self.right, self.dense):
            if part is not None:
                digest.update(part.contiguous().numpy().data)
        return digest.digest()


PRISTINE = Update(torch.empty(0, 0), torch.empty(0, 0))


def join(parts: Sequence[Update]) -> Update:
    """The sum of changes of one parameter: one pair of wider factors, and one dense part.

    The same changes in another order give the same sum, bit for bit. Raises SwapFailed when they
    are not changes of one and the same matrix.
    """
    if not parts:
        return PRISTINE
    if len({part.shape for part in parts}) > 1:
        raise SwapFailed(
            "The live deltas of a parameter have different shapes; one was computed for "
            "another model. Roll it back."
        )
    ordered = sorted(parts, key=Update.content) if len(parts) > 1 else parts
    dense = [part.dense for part in ordered if part.dense is not None]
    return Update(
        torch.cat([part.left for part in ordered], dim=1),
        torch.cat([part.right for part in ordered], dim=1),
        reduce(torch.add, dense) if dense else None,
    )


def total(deltas: Sequence[Delta], touched: Iterable[str]) -> dict[str, Update]:
    """The sum for each parameter; one touched before and by no delta now becomes pristine."""
    parts: dict[str, list[Update]] = {name: [] for name in touched}
    for delta in deltas:
        for name, change in delta.changes.items():
            parts.setdefault(name, []).append(_update(change))
    return {name: join(found) for name, found in parts.items()}


def _update(change: ParameterChange) -> Update:
    """The change in the orientation of the checkpoint."""
    if isinstance(change, Dense):
        return Update.of_dense(change.update.T if change.transposed else change.update)
    sides = (change.v, change.u) if change.transposed else (change.u, change.v)
    return Update(*sides)


def pack(updates: Mapping[str, Update]) -> bytes:
    """Serialise to safetensors bytes (no pickle), readable by ``unpack`` on every rank."""
    tensors = {}
    for name, update in updates.items():
        tensors[f"left/{name}"] = update.left.float().contiguous()
        tensors[f"right/{name}"] = update.right.float().contiguous()
        if update.dense is not None:
            tensors[f"dense/{name}"] = update.dense.float().contiguous()
    return save(tensors)


def unpack(data: bytes) -> dict[str, Update]:
    """The inverse of ``pack``."""
    tensors = load(data)
    names = sorted(key.removeprefix("left/") for key in tensors if key.startswith("left/"))
    return {
        name: Update(
            tensors[f"left/{name}"], tensors[f"right/{name}"], tensors.get(f"dense/{name}")
        )
        for name in names
    }


def chunks(data: bytes) -> Iterator[bytes]:
    """The data in parts that can be sent one by one while the engine serves; at least one."""
    for start in range(0, max(len(data), 1), CHUNK):
        yield data[start : start + CHUNK]
