"""Attention's keys and values of tokens that are read only once."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import Cache, DynamicCache
from transformers.cache_utils import DynamicLayer

from weight_patchers.errors import UnsupportedModel


@dataclass(frozen=True, eq=False)
class Prefix:
    """Keys and values of the tokens before `first[row]`, aligned at their end.

    `mask` [rows, longest] is 1 where there is a token; `first` [rows] counts them. `layers`
    holds keys and values [rows, heads, longest, d_head] of each decoder layer from `start` on;
    those below are not run again.
    """

    start: int
    first: Tensor
    mask: Tensor
    layers: tuple[tuple[Tensor, Tensor], ...]

    @classmethod
    def of(cls, cache: DynamicCache, start: int, depth: int, first: Tensor) -> "Prefix":
        """The part of a pass's cache, whose rows are padded on the right, before `first`.

        Raises UnsupportedModel if the model does not keep keys and values of each layer.
        """
        kept = [_kept(layer) for layer in cache.layers]
        if len(kept) != depth:
            raise UnsupportedModel("not every layer of the model keeps attention's keys and values")
        longest = int(first.max())
        columns = torch.arange(longest, device=first.device) - longest + first[:, None]
        mask = (columns >= 0).long()
        index = columns.clamp_min(0)[:, None, :, None]
        layers = tuple((_taken(k, index), _taken(v, index)) for k, v in kept[start:])
        return cls(start, first, mask, layers)

    def only(self, rows: Tensor) -> "Prefix":
        """The prefix of some rows; columns that none of them needs are cut off."""
        first = self.first[rows]
        spare = self.mask.shape[1] - int(first.max())
        layers = tuple((k[rows, :, spare:], v[rows, :, spare:]) for k, v in self.layers)
        return Prefix(self.start, first, self.mask[rows, spare:], layers)

    def above(self, layer: int) -> "Prefix":
        """The prefix for the layers from a later one on."""
        return Prefix(layer, self.first, self.mask, self.layers[layer - self.start :])

    def arguments(self, mask: Tensor) -> dict[str, Any]:
        """Keyword arguments of a forward pass over the tokens from `first` on, whose mask,
        padded on the right, is given."""
        if not self.mask.shape[1]:
            return {}
        return {
            "attention_mask": torch.cat([self.mask, mask], dim=1),
            "position_ids": self.first[:, None] + mask.cumsum(1) - 1,
            "past_key_values": self._cache(),
        }

    def _cache(self) -> Cache:
        # Transformers takes the length for masks from the first layer.
        stub = self.mask[:, None, :, None]
        below = [_Fixed(stub, stub) for _ in range(self.start)]
        return Cache(layers=[*below, *(_Fixed(*layer) for layer in self.layers)])


class _Fixed(DynamicLayer):
    """Fixed keys and values; new ones are appended for one pass only."""

    def __init__(self, keys: Tensor, values: Tensor) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.lazy_initialization(keys, values)
        self.keys, self.values = self._fixed = keys, values

    def update(
        self, key_states: Tensor, value_states: Tensor, *_args: Any, **_kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        keys, values = self._fixed
        return torch.cat([keys, key_states], dim=-2), torch.cat([values, value_states], dim=-2)


def _kept(layer: object) -> tuple[Tensor, Tensor]:
    keys, values = getattr(layer, "keys", None), getattr(layer, "values", None)
    if not isinstance(keys, Tensor) or not isinstance(values, Tensor):
        raise UnsupportedModel("a layer of the model does not keep attention's keys and values")
    return keys, values


def _taken(tensor: Tensor, index: Tensor) -> Tensor:
    return tensor.gather(2, index.expand(-1, tensor.shape[1], -1, tensor.shape[3]))
