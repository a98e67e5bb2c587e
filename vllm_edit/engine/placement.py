"""Where the parameters of a checkpoint go: what vLLM's own loader does with them."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch

from vllm_edit.domain.errors import SwapFailed
from vllm_edit.vllm_interface.layers import fused_layers, is_unquantized, without_adapters


@dataclass(frozen=True)
class Load:
    """One call of a layer's weight loader: the parameter, the part of it, and what else."""

    parameter: str
    size: Sequence[int]
    stride: Sequence[int]
    offset: int
    arguments: tuple[Any, ...]
    keywords: Mapping[str, Any]

    def part_of(self, tensor: torch.Tensor) -> torch.Tensor:
        """What the loader is given of the parameter ``tensor``: all, a slice, the transpose."""
        return tensor.contiguous().as_strided(self.size, self.stride, self.offset)


@dataclass(frozen=True)
class Placement:
    """A linear layer of this rank and the calls that fill its weight."""

    layer: Any
    name: str
    loads: Sequence[Load]

    @property
    def parameters(self) -> set[str]:
        return {load.parameter for load in self.loads}


def with_siblings(model: Any, names: Sequence[str]) -> Iterator[str]:
    """These parameters and those that vLLM fuses with them into one layer, as q, k and v."""
    for name in names:
        yield name
        prefix, _, rest = name.rpartition(".")
        parent, _, leaf = prefix.rpartition(".")
        for parts in fused_layers(model):
            if leaf in parts:
                yield from (f"{parent}.{part}.{rest}" for part in parts if part != leaf)


def place(model: Any, shapes: Mapping[str, Sequence[int]], dtype: torch.dtype) -> list[Placement]:
    """Where this rank has the parameters of these names and shapes; nothing is written.

    Those that the rank has no part of are left out.

    Raises:
        SwapFailed: the model has no such parameter, or it is none that can be replaced.
    """
    # Without data: a model that would write these anywhere by itself raises instead.
    probes = {
        name: torch.empty(*shape, dtype=dtype, device="meta") for name, shape in shapes.items()
    }
    names = {_storage(probe): name for name, probe in probes.items()}
    layers: dict[str, tuple[Any, list[Load]]] = {}

    def record(layer: Any, where: str, tensor: torch.Tensor, *rest: Any, **more: Any) -> None:
        parameter = names.get(_storage(tensor))
        if parameter is None:
            raise SwapFailed(
                f"vLLM computes {where} from what it loads, so that an edit of it cannot be "
                "served. Use a memory method such as ike."
            )
        view = (tuple(tensor.shape), tensor.stride(), int(tensor.storage_offset()))
        layers.setdefault(where, (layer, []))[1].append(Load(parameter, *view, rest, more))

    with without_adapters(model), _recording(model, record):
        try:
            model.load_weights(iter(probes.items()))
        except (KeyError, ValueError, AttributeError, NotImplementedError) as error:
            raise SwapFailed(
                f"The served model does not load {', '.join(probes)}: {error}"
            ) from error
    for where, (layer, loads) in layers.items():
        _require_replaceable(where, layer, loads)
    return [
        Placement(layer, where.removesuffix(".weight"), loads)
        for where, (layer, loads) in layers.items()
    ]


def _storage(tensor: torch.Tensor) -> int:
    """What a tensor shares with its views, and with nothing else."""
    return int(tensor.untyped_storage()._cdata)


def _require_replaceable(where: str, layer: Any, loads: Sequence[Load]) -> None:
    if not (is_unquantized(layer) and where.endswith(".weight")):
        raise SwapFailed(
            f"{loads[0].parameter} is served as {where} of {type(layer).__name__}, and only "
            "weights of unquantised linear layers can be edited. Choose other layers, or a "
            "memory method such as ike."
        )


@contextmanager
def _recording(model: Any, record: Callable[..., None]) -> Iterator[None]:
    """Parameters and buffers that record what is loaded into them, and stay as they are."""
    before: dict[int, tuple[Any, Any]] = {}
    try:
        for name, module in model.named_modules():
            tensors = (
                *module.named_parameters(recurse=False),
                *module.named_buffers(recurse=False),
            )
            for key, tensor in tensors:
                loader = getattr(tensor, "weight_loader", None)
                before.setdefault(id(tensor), (tensor, loader))
                tensor.weight_loader = _recorder(record, module, f"{name}.{key}")
        yield
    finally:
        for tensor, loader in before.values():
            if loader is None:
                del tensor.weight_loader
            else:
                tensor.weight_loader = loader


def _recorder(record: Callable[..., None], layer: Any, where: str) -> Callable[..., None]:
    return lambda _, tensor, *rest, **more: record(layer, where, tensor, *rest, **more)
