"""The folders from which vLLM loads adapters."""

import shutil
from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path

import torch
from transformers import PreTrainedModel

from vllm_edit.errors import VariantUnavailable
from weight_patchers import Delta, Dense, LowRank
from weight_patchers.export.adapter import write_adapter
from weight_patchers.export.request import Request, without_weights


def difference(wanted: Sequence[Delta], merged: Sequence[Delta]) -> list[Delta]:
    """What to add to the merged deltas to get the wanted ones; dense deltas stay as they are.

    Raises VariantUnavailable where that takes a dense delta, which is no adapter.
    """
    missing = [delta for delta in wanted if delta not in merged]
    surplus = [delta for delta in merged if delta not in wanted]
    for delta in (*missing, *surplus):
        if any(isinstance(change, Dense) for change in delta.changes.values()):
            raise VariantUnavailable(
                f"It differs from the merged weights by a {delta.method} edit, whose dense delta "
                "fits no adapter. Use a low-rank method such as memit beside edit sets."
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

    def path(self, number: int) -> Path:
        """Where adapter ``number`` is."""
        return self._folder / f"adapter-{number}"

    def write(self, number: int, deltas: Sequence[Delta]) -> None:
        """Write adapter ``number``, which is not there yet; it adds these low-rank deltas."""
        write_adapter(Request.trusting(deltas, self._base, self._model), self.path(number))

    def write_next(self, number: int, deltas: Sequence[Delta]) -> None:
        """Write what is to be in adapter ``number``'s place; `exchange` puts it there."""
        following = self._next(number)
        shutil.rmtree(following, ignore_errors=True)
        write_adapter(Request.trusting(deltas, self._base, self._model), following)

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

    @cached_property
    def _model(self) -> PreTrainedModel:
        return without_weights(self._base)


def nothing(like: Sequence[Delta]) -> Delta:
    """A delta of parameters that these change too, which changes none of them."""
    changes = {
        name: LowRank(
            torch.zeros(change.shape[0], 1), torch.zeros(change.shape[1], 1), change.transposed
        )
        for name, change in like[0].changes.items()
    }
    return replace(like[0], changes=changes)


def _scaled(delta: Delta, factor: float) -> Delta:
    changes = {
        name: LowRank(change.u * factor, change.v, change.transposed)
        for name, change in delta.changes.items()
        if isinstance(change, LowRank)
    }
    return replace(delta, changes=changes)
