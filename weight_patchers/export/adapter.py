"""Deltas as one LoRA adapter in PEFT's format."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from weight_patchers.delta import Delta, LowRank
from weight_patchers.errors import CannotExport
from weight_patchers.export.folder import whole
from weight_patchers.export.request import Request


@dataclass(frozen=True)
class Adapter:
    """The written adapter: its rank, and how far it is from the deltas.

    `relative_errors` holds, by parameter, ‖adapter - Σ deltas‖ / ‖Σ deltas‖ in Frobenius norms;
    0 where nothing was approximated.
    """

    rank: int
    relative_errors: Mapping[str, float]


def to_peft(deltas: Sequence[Delta], base: Path, output: Path, rank: int | None = None) -> Adapter:
    """Write the sum of the deltas to `output` as a PEFT LoRA adapter of the checkpoint `base`.

    The factors of a parameter's deltas are put side by side, in float32. Every parameter gets the
    rank of the widest, filled up with zeros, and alpha = r, so that the adapter adds B A =
    Σ deltas. With `rank`, wider sums and dense deltas become their best approximation of that
    rank (truncated singular value decomposition). The folder is written whole or not at all.

    Raises WrongBase for a delta of another base, CorruptDelta for one that does not fit it,
    UnreadableCheckpoint for a folder that is no checkpoint, and CannotExport when there is
    nothing to write, the output is in the way, or the deltas cannot be an adapter: dense ones
    without `rank`, extra units, and those of anything but untied linear maps.
    """
    if rank is not None and rank < 1:
        raise CannotExport(f"an adapter cannot have rank {rank}: give 1 or more")
    return write_adapter(Request.of(deltas, base), output, rank)


def write_adapter(request: Request, output: Path, rank: int | None = None) -> Adapter:
    """As `to_peft`, for deltas that have been checked; raises CannotExport as it does."""
    if request.neurons:
        raise CannotExport(
            f"there are extra inner units of {', '.join(request.neurons)}, and an adapter holds "
            "changes of matrices only: export a merged checkpoint, or leave these edits out"
        )
    for name in request.changes:
        _require_linear(request, name)
    fits = {name: _fit(request, name, rank) for name in request.changes}
    width = max(1, *(factors.rank for factors, _ in fits.values()))
    tensors: dict[str, Tensor] = {}
    for name, (factors, _) in fits.items():
        module = f"base_model.model.{_module(name)}"
        blank = width - factors.rank
        tensors[f"{module}.lora_A.weight"] = F.pad(factors.v.T, (0, 0, 0, blank)).contiguous()
        tensors[f"{module}.lora_B.weight"] = F.pad(factors.u, (0, blank)).contiguous()
    with whole(output) as folder:
        config = json.dumps(_config(request, width), indent=2)
        (folder / "adapter_config.json").write_text(f"{config}\n", encoding="utf-8")
        save_file(tensors, folder / "adapter_model.safetensors", metadata={"format": "pt"})
    return Adapter(width, {name: error for name, (_, error) in fits.items()})


def _require_linear(request: Request, parameter: str) -> None:
    name = _module(parameter)
    linear = isinstance(request.model.get_submodule(name), nn.Linear | Conv1D)
    if not linear or parameter != f"{name}.weight" or len(request.names(parameter)) > 1:
        raise CannotExport(
            f"{parameter} is not the weight of an untied linear map, which is all that an "
            "adapter can change: export a merged checkpoint"
        )


def _fit(request: Request, parameter: str, rank: int | None) -> tuple[LowRank, float]:
    """The factors of a parameter's summed changes, and their relative error."""
    transposed = request.changes[parameter][0].transposed
    change = request.sum(parameter)
    if change.dense is None and (rank is None or change.rank <= rank):
        u, v = (change.right, change.left) if transposed else (change.left, change.right)
        return LowRank(u, v), 0.0
    if rank is None:
        raise CannotExport(
            f"{parameter} is changed by a dense delta, and an adapter holds low-rank ones only: "
            "export a merged checkpoint, or give a rank to approximate it with"
        )
    total = change.total()
    u, s, vh = torch.linalg.svd(total.T if transposed else total, full_matrices=False)
    root = s[:rank].sqrt()
    error = s[rank:].norm() / s.norm().clamp_min(torch.finfo(s.dtype).tiny)
    return LowRank(u[:, :rank] * root, vh[:rank].T * root), float(error)


def _module(parameter: str) -> str:
    return parameter.rpartition(".")[0]


def _config(request: Request, rank: int) -> dict[str, object]:
    transposed = {change.transposed for parts in request.changes.values() for change in parts}
    return {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": str(request.base),
        "inference_mode": True,
        "target_modules": sorted(map(_module, request.changes)),
        "r": rank,
        "lora_alpha": rank,
        "lora_dropout": 0.0,
        "bias": "none",
        "fan_in_fan_out": True in transposed,
    }
