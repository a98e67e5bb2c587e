"""Changes of several edits, each in effect in its own rows only."""

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from weight_patchers.model.layers import Projection


@dataclass(frozen=True, eq=False)
class Factors:
    """A low-rank change of one matrix for each edit: u[e] v[e]^T is added to W [d_out, d_in].

    `u` is [edits, d_out, r] and `v` [edits, d_in, r], float32. Columns that an edit does not need
    are zero.
    """

    u: Tensor
    v: Tensor

    def dense(self) -> Tensor:
        """The changes themselves, [edits, d_out, d_in]."""
        return self.u @ self.v.transpose(1, 2)

    def joined(self, other: "Factors") -> "Factors":
        """The sum of both."""
        return Factors(torch.cat([self.u, other.u], dim=2), torch.cat([self.v, other.v], dim=2))

    def scaled(self, factors: Tensor) -> "Factors":
        """Each edit's change times its own of `factors` [edits]."""
        return Factors(self.u * factors[:, None, None], self.v)

    def grouped(self, count: int) -> "Factors":
        """The sums of `count` consecutive edits' changes each."""
        u, v = (
            part.unflatten(0, (-1, count)).transpose(1, 2).flatten(2) for part in (self.u, self.v)
        )
        return Factors(u, v)

    def of_edit(self, edit: int) -> tuple[Tensor, Tensor]:
        """One edit's u [d_out, r'] and v [d_in, r'], without columns that are zero."""
        u, v = self.u[edit].detach(), self.v[edit].detach()
        used = (u != 0).any(0) & (v != 0).any(0)
        return u[:, used], v[:, used]


Changes = Mapping[int, Factors]
"""By layer."""


@contextmanager
def applied(targets: Mapping[int, Projection], changes: Changes, owners: Tensor) -> Iterator[None]:
    """Inside, row i of a batch is computed with the change of edit `owners[i]`.

    Differentiable in the changes. The matrices themselves stay as they are.
    """

    def add(factors: Factors, _module: nn.Module, args: tuple[Any, ...], output: Tensor) -> Tensor:
        x = args[0].reshape(len(owners), -1, args[0].shape[-1]).float()
        added = (x @ factors.v[owners]) @ factors.u[owners].transpose(1, 2)
        changed: Tensor = output + added.reshape(output.shape).to(output.dtype)
        return changed

    with ExitStack() as undo:
        for layer, factors in changes.items():
            handle = targets[layer].module.register_forward_hook(partial(add, factors))
            undo.callback(handle.remove)
        yield
