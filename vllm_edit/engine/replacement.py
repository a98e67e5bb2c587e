"""Weights for a linear layer, ready to change places with those that it serves."""

from collections.abc import Iterator, Mapping
from typing import Any

import torch

from vllm_edit.domain.errors import SwapFailed
from vllm_edit.engine.exchange import ROWS, Exchange, change_places, digest_of
from vllm_edit.engine.placement import Placement
from vllm_edit.vllm_interface.layers import apply, empty_weight, input_width, is_packed, prepared


def assemble(placement: Placement, tensors: Mapping[str, torch.Tensor]) -> torch.Tensor:
    """This rank's weight of a layer, in the served dtype, from whole checkpoint tensors.

    Raises SwapFailed when they are not all that the weight is made of, or not finite in its dtype.
    """
    weight, loader = empty_weight(placement.layer)
    weight.data.fill_(torch.nan)
    for load in placement.loads:
        part = load.part_of(tensors[load.parameter])
        loader(weight, part, *load.arguments, **load.keywords)
    if not torch.isfinite(weight.data).all():
        raise SwapFailed(
            f"The edited {', '.join(sorted(placement.parameters))} would have values that are "
            f"not finite in {weight.dtype}, or not fill {placement.name}. Roll the edit "
            "back, or serve the model in float32 or bfloat16."
        )
    data: torch.Tensor = weight.data
    return data


class Replacement(Exchange):
    """A weight beside the one that a layer serves, in the form in which its kernel takes it.

    They change places in the layer's own storage, so that CUDA graphs stay valid.
    """

    def __init__(self, placement: Placement, weight: torch.Tensor) -> None:
        super().__init__(placement.name)
        self._layer = placement.layer
        # What is served, if it can be read without a kernel, which only the main thread runs.
        self._before = None if is_packed(self._layer) else digest(self._layer)
        self._spare, self._made = prepared(self._layer, weight)
        if self._spare.weight.shape != self._layer.weight.shape:
            raise SwapFailed(f"vLLM packs {self.name} anew each time, so it cannot be replaced.")

    def _change_places(self) -> None:
        for name in self._made:
            mine, served = getattr(self._spare, name), getattr(self._layer, name)
            setattr(self._layer, name, mine)
            setattr(self._spare, name, served)
        change_places(self._layer.weight.data, self._spare.weight.data)

    def _digest_aside(self) -> str:
        return self._before or digest(self._spare, input_width(self._layer))

    def _digest_served(self) -> str:
        return digest(self._layer)


def digest(layer: Any, width: int | None = None) -> str:
    """SHA-256 of a linear layer's weight as its kernel applies it on this rank.

    ``width`` is that of the layer's input, if the layer does not tell.
    """
    return digest_of(_parts(layer, width or input_width(layer)))


def columns(layer: Any, chosen: torch.Tensor) -> torch.Tensor:
    """These columns of the weight as the layer's kernel applies it, one in a row."""
    if not is_packed(layer):
        found: torch.Tensor = layer.weight.data[:, chosen.to(layer.weight.device)].T.cpu()
        return found
    return _effect(layer, chosen, input_width(layer))


def _parts(layer: Any, width: int) -> Iterator[torch.Tensor]:
    if not is_packed(layer):
        yield from layer.weight.data.split(ROWS)
        return
    for chosen in torch.arange(width).split(ROWS):
        yield _effect(layer, chosen, width)


def _effect(layer: Any, chosen: torch.Tensor, width: int) -> torch.Tensor:
    """What a kernel gives for rows of the identity matrix: those columns of the weight."""
    rows = torch.zeros(len(chosen), width, dtype=layer.weight.dtype)
    rows[torch.arange(len(chosen)), chosen] = 1.0
    return apply(layer, rows)
