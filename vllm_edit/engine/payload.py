"""The bytes of one swap: for every parameter it touches, the sum of all live deltas."""

from collections.abc import Iterable, Iterator, Mapping, Sequence

import torch
from safetensors.torch import load, save

from vllm_edit.domain.errors import SwapFailed
from weight_patchers import Delta
from weight_patchers.delta_sum import DeltaSum, sum_deltas
from weight_patchers.errors import WrongBase

CHUNK = 1 << 20
"""Bytes sent in one call: between two steps of the engine, each takes about a millisecond."""


PRISTINE = DeltaSum(torch.empty(0, 0), torch.empty(0, 0))
"""Of a parameter that gets its base weight back. Without a shape, as no delta has one."""


def live_sums(deltas: Sequence[Delta], touched: Iterable[str]) -> dict[str, DeltaSum]:
    """The sum for each parameter that a delta changes, and PRISTINE for the other touched ones.

    Raises SwapFailed when two deltas do not fit the same model.
    """
    try:
        return dict.fromkeys(touched, PRISTINE) | sum_deltas(deltas)
    except WrongBase as error:
        raise SwapFailed(
            "The live deltas of a parameter have different shapes; one was computed for "
            "another model. Roll it back."
        ) from error


def pack(sums: Mapping[str, DeltaSum]) -> bytes:
    """Serialise to safetensors bytes (no pickle), readable by ``unpack`` on every rank."""
    tensors = {}
    for name, change in sums.items():
        tensors[f"left/{name}"] = change.left.float().contiguous()
        tensors[f"right/{name}"] = change.right.float().contiguous()
        if change.dense is not None:
            tensors[f"dense/{name}"] = change.dense.float().contiguous()
    return save(tensors)


def unpack(data: bytes) -> dict[str, DeltaSum]:
    """The inverse of ``pack``."""
    tensors = load(data)
    names = sorted(key.removeprefix("left/") for key in tensors if key.startswith("left/"))
    return {
        name: DeltaSum(
            tensors[f"left/{name}"], tensors[f"right/{name}"], tensors.get(f"dense/{name}")
        )
        for name in names
    }


def chunks(data: bytes) -> Iterator[bytes]:
    """The data in parts that can be sent one by one while the engine serves; at least one."""
    for start in range(0, max(len(data), 1), CHUNK):
        yield data[start : start + CHUNK]
