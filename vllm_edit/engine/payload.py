"""The bytes of one swap: for every parameter it touches, the sum of all live deltas.

And for every MLP that it touches, all live extra units.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import torch
from safetensors.torch import load, save

from vllm_edit.domain.errors import SwapFailed
from weight_patchers import Delta, Neurons
from weight_patchers.delta_sum import DeltaSum, join_neurons, sum_deltas
from weight_patchers.errors import WrongBase

CHUNK = 1 << 20
"""Bytes sent in one call: between two steps of the engine, each takes about a millisecond."""


PRISTINE = DeltaSum(torch.empty(0, 0), torch.empty(0, 0))
"""Of a parameter that gets its base weight back. Without a shape, as no delta has one."""

NO_NEURONS: Mapping[str, Neurons] = MappingProxyType({})

FREED = Neurons(torch.empty(0, 0), k=torch.empty(0, 0))
"""Of an MLP whose extra units are all free again."""


@dataclass(frozen=True)
class Live:
    """The names of what live deltas change: parameters, and MLPs that have extra units."""

    parameters: frozenset[str] = frozenset()
    mlps: frozenset[str] = frozenset()


@dataclass(frozen=True, eq=False)
class Content:
    """What a swap brings, by the name of each parameter and of each MLP that it touches."""

    sums: Mapping[str, DeltaSum]
    neurons: Mapping[str, Neurons]

    @classmethod
    def of(cls, deltas: Sequence[Delta], before: Live) -> "Content":
        """What leads from what was live before to these live deltas.

        Raises SwapFailed when two deltas do not fit the same model.
        """
        return cls(live_sums(deltas, before.parameters), live_neurons(deltas, before.mlps))

    @property
    def names(self) -> list[str]:
        """All that it touches."""
        return [*self.sums, *self.neurons]

    @property
    def used(self) -> dict[str, int]:
        """How many extra units each MLP has then."""
        return {name: neurons.count for name, neurons in self.neurons.items()}

    @property
    def live(self) -> Live:
        """What is live then."""
        return Live(
            frozenset(name for name, change in self.sums.items() if not change.is_empty),
            frozenset(name for name, count in self.used.items() if count),
        )


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


def live_neurons(deltas: Sequence[Delta], touched: Iterable[str]) -> dict[str, Neurons]:
    """The extra units of each MLP that has some, and FREED for the other touched ones.

    Raises SwapFailed when two deltas do not fit the same model.
    """
    try:
        return dict.fromkeys(touched, FREED) | join_neurons(deltas)
    except WrongBase as error:
        raise SwapFailed(
            "The live extra units of an MLP have different widths or forms; some were computed "
            "for another model. Roll them back."
        ) from error


def pack(sums: Mapping[str, DeltaSum], neurons: Mapping[str, Neurons] = NO_NEURONS) -> bytes:
    """Serialise to safetensors bytes (no pickle), readable by ``unpack`` on every rank."""
    tensors = {}
    for name, units in neurons.items():
        for part, tensor in units.parts().items():
            tensors[f"neurons/{part}/{name}"] = tensor.contiguous()
    for name, change in sums.items():
        tensors[f"left/{name}"] = change.left.float().contiguous()
        tensors[f"right/{name}"] = change.right.float().contiguous()
        if change.dense is not None:
            tensors[f"dense/{name}"] = change.dense.float().contiguous()
    return save(tensors)


def unpack(data: bytes) -> tuple[dict[str, DeltaSum], dict[str, Neurons]]:
    """The inverse of ``pack``."""
    tensors = load(data)
    names = sorted(key.removeprefix("left/") for key in tensors if key.startswith("left/"))
    sums = {
        name: DeltaSum(
            tensors[f"left/{name}"], tensors[f"right/{name}"], tensors.get(f"dense/{name}")
        )
        for name in names
    }
    parts: dict[str, dict[str, torch.Tensor]] = {}
    for key, tensor in tensors.items():
        if key.startswith("neurons/"):
            _, part, name = key.split("/", 2)
            parts.setdefault(name, {})[part] = tensor
    return sums, {name: Neurons(**own) for name, own in parts.items()}


def chunks(data: bytes) -> Iterator[bytes]:
    """The data in parts that can be sent one by one while the engine serves; at least one."""
    for start in range(0, max(len(data), 1), CHUNK):
        yield data[start : start + CHUNK]
