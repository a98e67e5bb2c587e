"""The folders from which vLLM loads adapters."""

import shutil
from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path

import torch
from torch import nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from vllm_edit.domain.errors import VariantUnavailable
from weight_patchers import Delta, Dense, LowRank, PatcherError
from weight_patchers.export.adapter import write_adapter
from weight_patchers.export.request import Request, without_weights
from weight_patchers.model.layers import layers, require_dense


def difference(wanted: Sequence[Delta], merged: Sequence[Delta]) -> list[Delta]:
    """What to add to the merged deltas to get the wanted ones; other deltas stay as they are.

    Raises VariantUnavailable where that takes a dense delta or extra units, which are no adapter.
    """
    missing = [delta for delta in wanted if delta not in merged]
    surplus = [delta for delta in merged if delta not in wanted]
    for delta in (*missing, *surplus):
        if any(isinstance(change, Dense) for change in delta.changes.values()):
            raise VariantUnavailable(
                f"It differs from the merged weights by a {delta.method} edit, whose dense delta "
                "fits no adapter. Use a low-rank method such as memit beside edit sets."
            )
        if delta.neurons:
            raise VariantUnavailable(
                f"It differs from the merged weights by a {delta.method} edit, whose extra units "
                "fit no adapter. Use a low-rank method such as memit beside edit sets."
            )
    return [*missing, *(_scaled(delta, -1.0) for delta in surplus)]


def rank(deltas: Sequence[Delta]) -> int:
    """The rank of an adapter that adds these low-rank deltas."""
    widths: dict[str, int] = {}
    for delta in deltas:
        for name, change in delta.changes.items():
            if isinstance(change, LowRank):
                widths[name] = widths.get(name, 0) + change.rank
    return max(widths.values(), default=0)


class AdapterFiles:
    """Writes PEFT folders under ``folder`` for deltas of the checkpoint ``base``."""

    def __init__(self, base: Path, folder: Path) -> None:
        self._base = base
        self._folder = folder

    @cached_property
    def possible(self) -> bool:
        """Whether the base is a model whose edits fit adapters."""
        try:
            return bool(self._nothing.changes)
        except PatcherError:
            return False

    def path(self, number: int) -> Path:
        """Where adapter ``number`` is."""
        return self._folder / f"adapter-{number}"

    def write(self, number: int, deltas: Sequence[Delta]) -> None:
        """Write adapter ``number``, which is not there yet; it adds these low-rank deltas."""
        write_adapter(self._request(deltas), self.path(number))

    def write_next(self, number: int, deltas: Sequence[Delta]) -> None:
        """Write what is to be in adapter ``number``'s place; `exchange` puts it there."""
        following = self._next(number)
        shutil.rmtree(following, ignore_errors=True)
        write_adapter(self._request(deltas), following)

    def exchange(self, number: int) -> None:
        """Put what is there and what was written next in each other's place."""
        path, following, aside = self.path(number), self._next(number), self._folder / "aside"
        path.rename(aside)
        following.rename(path)
        aside.rename(following)

    def remove(self, number: int) -> None:
        """Remove the adapter and what was written next, where they are."""
        shutil.rmtree(self.path(number), ignore_errors=True)
        shutil.rmtree(self._next(number), ignore_errors=True)

    def _next(self, number: int) -> Path:
        return self._folder / f"adapter-{number}.next"

    def _request(self, deltas: Sequence[Delta]) -> Request:
        return Request.trusting(deltas or [self._nothing], self._base, self._model)

    @cached_property
    def _model(self) -> PreTrainedModel:
        return without_weights(self._base)

    @cached_property
    def _nothing(self) -> Delta:
        """A delta that changes nothing, of the last linear map in the first layer."""
        require_dense(self._model)
        block = set(next(iter(layers(self._model))).modules())
        name, linear = [
            (name, module)
            for name, module in self._model.named_modules()
            if module in block and isinstance(module, nn.Linear | Conv1D)
        ][-1]
        transposed = isinstance(linear, Conv1D)
        shape = linear.weight.shape[::-1] if transposed else linear.weight.shape
        change = LowRank(torch.zeros(shape[0], 1), torch.zeros(shape[1], 1), transposed)
        return Delta("", "none", {}, {f"{name}.weight": change}, ())


def _scaled(delta: Delta, factor: float) -> Delta:
    changes = {
        name: LowRank(change.u * factor, change.v, change.transposed)
        for name, change in delta.changes.items()
        if isinstance(change, LowRank)
    }
    return replace(delta, changes=changes)
