"""The bytes of one swap: for every parameter it touches, the sum of all live deltas."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import reduce

import torch
from safetensors.torch import load, save

from vllm_edit.errors import SwapFailed


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


PRISTINE = Update(torch.empty(0, 0), torch.empty(0, 0))


def join(parts: Sequence[Update]) -> Update:
    """The sum of changes of one parameter: one pair of wider factors, and one dense part.

    Raises SwapFailed when they are not changes of one and the same matrix.
    """
    if not parts:
        return PRISTINE
    if len({part.shape for part in parts}) > 1:
        raise SwapFailed(
            "The live deltas of a parameter have different shapes; one was computed for "
            "another model. Roll it back."
        )
    dense = [part.dense for part in parts if part.dense is not None]
    return Update(
        torch.cat([part.left for part in parts], dim=1),
        torch.cat([part.right for part in parts], dim=1),
        reduce(torch.add, dense) if dense else None,
    )


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
