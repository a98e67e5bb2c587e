"""The bytes of one swap: for every parameter it touches, the factors of all live deltas."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from safetensors.torch import load, save

from vllm_edit.errors import SwapFailed


@dataclass(frozen=True)
class Factors:
    """One parameter's live change in the checkpoint's own orientation: W' = W + left rightᵀ.

    ``left`` is [rows of W, r] and ``right`` [columns of W, r], float32; r = 0 stands for the
    pristine tensor.
    """

    left: torch.Tensor
    right: torch.Tensor


PRISTINE = Factors(torch.empty(0, 0), torch.empty(0, 0))


def join(parts: Sequence[Factors]) -> Factors:
    """The sum of low-rank changes of one parameter, as one pair of wider factors.

    Raises SwapFailed when they are not changes of one and the same matrix.
    """
    if not parts:
        return PRISTINE
    if len({(part.left.shape[0], part.right.shape[0]) for part in parts}) > 1:
        raise SwapFailed(
            "The live deltas of a parameter have different shapes; one was computed for "
            "another model. Roll it back."
        )
    return Factors(
        torch.cat([part.left for part in parts], dim=1),
        torch.cat([part.right for part in parts], dim=1),
    )


def pack(factors: Mapping[str, Factors]) -> bytes:
    """Serialise to safetensors bytes (no pickle), readable by ``unpack`` on every rank."""
    tensors = {}
    for name, factor in factors.items():
        tensors[f"left/{name}"] = factor.left.float().contiguous()
        tensors[f"right/{name}"] = factor.right.float().contiguous()
    return save(tensors)


def unpack(data: bytes) -> dict[str, Factors]:
    """The inverse of ``pack``."""
    tensors = load(data)
    names = sorted(key.removeprefix("left/") for key in tensors if key.startswith("left/"))
    return {name: Factors(tensors[f"left/{name}"], tensors[f"right/{name}"]) for name in names}
