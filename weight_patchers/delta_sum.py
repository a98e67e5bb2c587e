"""The sum of deltas: the same values, bit for bit, in whatever order the deltas are given.

Served weights, exported checkpoints and the copy of the model on which the next delta is computed
all come from this sum, so they are equal.
"""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import reduce

import torch
from torch import Tensor

from weight_patchers.delta import Delta, Dense, Neurons, ParameterChange
from weight_patchers.errors import WrongBase


@dataclass(frozen=True, eq=False)
class DeltaSum:
    """The summed change of one parameter: W' = W + left right^T + dense.

    All is float32, on the CPU and in the checkpoint's own orientation of W: `left` is
    [rows, rank], `right` [columns, rank] and `dense` [rows, columns], or None.
    """

    left: Tensor
    right: Tensor
    dense: Tensor | None = None

    @classmethod
    def of(cls, changes: Sequence[ParameterChange]) -> "DeltaSum":
        """The sum of at least one change of the same parameter.

        Raises WrongBase when they are changes of matrices of different shapes.
        """
        summands = [_summand(change) for change in changes]
        if len({summand.shape for summand in summands}) > 1:
            raise WrongBase(
                "deltas change one parameter in different shapes, so one of them was computed for "
                "another model: take that one back"
            )
        if len(summands) > 1:
            summands.sort(key=lambda s: _content((s.left, s.right, s.dense)))
        dense = [summand.dense for summand in summands if summand.dense is not None]
        return cls(
            torch.cat([summand.left for summand in summands], dim=1),
            torch.cat([summand.right for summand in summands], dim=1),
            reduce(torch.add, dense) if dense else None,
        )

    @property
    def rank(self) -> int:
        """The width of the factors."""
        return self.left.shape[1]

    @property
    def shape(self) -> tuple[int, int]:
        """The shape of W."""
        return self.left.shape[0], self.right.shape[0]

    @property
    def is_empty(self) -> bool:
        """Whether it leaves W as it is."""
        return self.rank == 0 and self.dense is None

    def total(self) -> Tensor:
        """W' - W, of the shape of W."""
        product = self.left @ self.right.T
        return product if self.dense is None else product.add_(self.dense)

    def added_to(self, base: Tensor) -> Tensor:
        """W' in float32, on the device of W; `base` is W, of this shape and of any dtype."""
        return self.total().to(base.device).add_(base)

    def norm(self) -> Tensor:
        """||W' - W||_F, float64.

        Without a dense part it comes from the Gram matrices of the factors, without the product:
        ||U V^T||_F^2 = sum of (U^T U) * (V^T V).
        """
        if self.dense is not None:
            norm: Tensor = torch.linalg.vector_norm(self.total(), dtype=torch.float64)
            return norm
        u, v = self.left.double(), self.right.double()
        # Rounding may leave a square below zero.
        return ((u.T @ u) * (v.T @ v)).sum().clamp_min(0).sqrt()


def sum_deltas(deltas: Sequence[Delta]) -> dict[str, DeltaSum]:
    """The sum for every parameter that a delta changes. Raises WrongBase as `DeltaSum.of`.

    Extra units change no parameter: see `join_neurons`.
    """
    return {name: DeltaSum.of(changes) for name, changes in changes_of(deltas).items()}


def join_neurons(deltas: Sequence[Delta]) -> dict[str, Neurons]:
    """All extra units of each MLP side by side, by module, in an order that their values give.

    Where some have a bias, those without one get 0. Raises WrongBase when units of one MLP are of
    different widths or forms.
    """
    parts: dict[str, list[Neurons]] = {}
    for delta in deltas:
        for name, neurons in delta.neurons.items():
            parts.setdefault(name, []).append(neurons)
    return {name: _joined(name, neurons) for name, neurons in parts.items()}


def changes_of(deltas: Sequence[Delta]) -> Mapping[str, Sequence[ParameterChange]]:
    """All changes of each parameter that a delta changes."""
    changes: dict[str, list[ParameterChange]] = {}
    for delta in deltas:
        for name, change in delta.matrices.items():
            changes.setdefault(name, []).append(change)
    return changes


def _joined(name: str, parts: Sequence[Neurons]) -> Neurons:
    if len({(neurons.width, neurons.gated) for neurons in parts}) > 1:
        raise WrongBase(
            f"deltas add units of different widths or forms to {name}, so one of them was computed "
            "for another model: take that one back"
        )
    if any(neurons.b is not None for neurons in parts):
        parts = [replace(n, b=torch.zeros(n.count) if n.b is None else n.b) for n in parts]
    tensors = [neurons.parts() for neurons in parts]
    tensors.sort(key=lambda each: _content(each.values()))
    return Neurons(**{part: torch.cat([each[part] for each in tensors], -1) for part in tensors[0]})


def _content(parts: Iterable[Tensor | None]) -> bytes:
    """A digest of all values; sorting by it gives an order that depends on nothing else."""
    digest = hashlib.sha256()
    for part in parts:
        if part is not None:
            digest.update(part.contiguous().numpy().data)
    return digest.digest()


def _summand(change: ParameterChange) -> DeltaSum:
    """One change in the orientation of the checkpoint."""
    if isinstance(change, Dense):
        dense = change.update.T if change.transposed else change.update
        rows, columns = dense.shape
        return DeltaSum(torch.empty(rows, 0), torch.empty(columns, 0), dense)
    left, right = (change.v, change.u) if change.transposed else (change.u, change.v)
    return DeltaSum(left, right)
