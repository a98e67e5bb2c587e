"""Rows of token ids as the tensors that a model takes."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Batch:
    """Rows padded on the right: ids and mask are int64 [rows, longest]."""

    ids: Tensor
    mask: Tensor

    def arguments(self) -> dict[str, Tensor | bool]:
        """Keyword arguments of a Transformers forward pass."""
        return {"input_ids": self.ids, "attention_mask": self.mask, "use_cache": False}

    def rows(self, count: int) -> "Batch":
        """The first `count` rows."""
        return Batch(self.ids[:count], self.mask[:count])

    def columns_from(self, first: Tensor) -> Tensor:
        """Columns [rows, longest] of each row's tokens from `first[row]` on; past the row's end,
        that of its last token."""
        lengths = self.mask.sum(1)
        offsets = torch.arange(int((lengths - first).max()), device=first.device)
        return (first[:, None] + offsets).minimum(lengths[:, None] - 1)

    def only_from(self, first: Tensor) -> "Batch":
        """Each row from its token `first[row]` on, padded on the right."""
        columns = self.columns_from(first)
        lengths = self.mask.sum(1) - first
        mask = torch.arange(columns.shape[1], device=first.device) < lengths[:, None]
        return Batch(self.ids.gather(1, columns), mask.to(self.mask.dtype))


def pad(rows: Sequence[Sequence[int]], device: torch.device) -> Batch:
    """Pad on the right, which in a causal model changes nothing before the padding."""
    longest = max(len(row) for row in rows)
    ids = torch.zeros(len(rows), longest, dtype=torch.int64)
    mask = torch.zeros_like(ids)
    for i, row in enumerate(rows):
        ids[i, : len(row)] = torch.tensor(row)
        mask[i, : len(row)] = 1
    return Batch(ids.to(device), mask.to(device))
