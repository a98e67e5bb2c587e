"""MEND's networks (Mitchell et al. 2022, arXiv 2110.11309, sections 3.1 and 3.2).

For each token t of an edit and each matrix m, x_t is the matrix's input and delta_t the gradient of
the edit's loss at its output. With every coordinate standardised by running moments, one network
for all matrices of a shape, and a step size r_m for each matrix:

    z_t = [x^_t ; delta^_t],  twice  z <- z + relu(s_m * (U V z + b) + o_m),  [x~_t ; delta~_t] = z
    W_m <- W_m - r_m sum over t of delta~_t x~_t^T

U = 0, b = 0, s = 1 and o = 0 before training, so an untrained editor takes a step down the
standardised gradient. (The published code adds the step with r_m > 0, so its untrained editor goes
up.) Here r_m is the exponential of what is trained, so that it stays positive.
"""

import math
from collections.abc import Iterator
from typing import Any, cast

import torch
from torch import Tensor, nn

from weight_patchers.mend.hparams import MendHparams
from weight_patchers.mend.moments import Moments
from weight_patchers.model.batch import Batch
from weight_patchers.trained.changes import Factors
from weight_patchers.trained.editor import Shapes, TrainedEditor
from weight_patchers.trained.gradients import GradientFactors, Gradients

_STEP_RATE = 100.0
"""Learning rate of the step sizes beside that of the networks, as published (1e-4 and 1e-6)."""


class MendEditor(TrainedEditor):
    """One network for all matrices of each shape; see the module."""

    method = "mend"
    hparams_type = MendHparams

    def __init__(self, hparams: MendHparams, shapes: Shapes, embeddings: Tensor) -> None:
        super().__init__(hparams, shapes, embeddings)
        self.hparams = hparams
        self._members: dict[tuple[int, int], list[int]] = {}
        for layer in sorted(shapes):
            self._members.setdefault(shapes[layer], []).append(layer)
        self.networks = nn.ModuleDict(
            {
                _name(shape): Network(*shape, len(layers), hparams)
                for shape, layers in self._members.items()
            }
        )

    def observe(self, gradients: Gradients) -> None:
        for network, members in self._networks():
            for layer in members:
                network.observe(gradients[layer])

    def changes(self, gradients: Gradients, condition: Batch | None = None) -> dict[int, Factors]:
        return {
            layer: network(gradients[layer], number)
            for network, members in self._networks()
            for number, layer in enumerate(members)
        }

    def parameter_groups(self, rate: float) -> list[dict[str, Any]]:
        steps = [network.log_steps for network, _ in self._networks()]
        known = {id(parameter) for parameter in steps}
        others = [p for p in self.parameters() if id(p) not in known]
        return [{"params": others, "lr": rate}, {"params": steps, "lr": rate * _STEP_RATE}]

    def _networks(self) -> Iterator[tuple["Network", list[int]]]:
        for shape, layers in self._members.items():
            yield cast("Network", self.networks[_name(shape)]), layers


class Network(nn.Module):
    """The network of all matrices [d_out, d_in] of one shape."""

    def __init__(self, d_in: int, d_out: int, matrices: int, hparams: MendHparams) -> None:
        super().__init__()
        self.x, self.delta = Moments(d_in), Moments(d_out)
        self.blocks = nn.ModuleList(
            Block(d_in + d_out, hparams.rank, matrices) for _ in range(hparams.blocks)
        )
        self.log_steps = nn.Parameter(torch.full((matrices,), math.log(hparams.step)))

    def observe(self, gradient: GradientFactors) -> None:
        self.x.observe(gradient.x[gradient.mask])
        self.delta.observe(gradient.delta[gradient.mask])

    def forward(self, gradient: GradientFactors, matrix: int) -> Factors:
        """The change of the matrix with this number, of rank at most the number of tokens."""
        x, delta = self.x.normalised(gradient.x), self.delta.normalised(gradient.delta)
        width = x.shape[-1]
        z = torch.cat([x, delta], dim=-1)
        for block in self.blocks:
            z = block(z, matrix)
        z = z * gradient.mask[..., None]
        step = self.log_steps[matrix].exp()
        u, v = -step * z[..., width:], z[..., :width]
        return Factors(u.transpose(1, 2), v.transpose(1, 2))


class Block(nn.Module):
    """z + relu(s_m * (U V z + b) + o_m), with U [width, r], V [r, width].

    V starts with entries of variance 1 / width, so that V z is of the size of z.
    """

    def __init__(self, width: int, rank: int, matrices: int) -> None:
        super().__init__()
        rank = min(rank, width)
        self.u = nn.Parameter(torch.zeros(width, rank))
        self.v = nn.Parameter(torch.randn(rank, width) / math.sqrt(width))
        self.bias = nn.Parameter(torch.zeros(width))
        self.scale = nn.Parameter(torch.ones(matrices, width))
        self.shift = nn.Parameter(torch.zeros(matrices, width))

    def forward(self, z: Tensor, matrix: int) -> Tensor:
        inner = self.scale[matrix] * (z @ self.v.T @ self.u.T + self.bias) + self.shift[matrix]
        # clamp, unlike relu, passes a gradient at zero, where training begins.
        return z + inner.clamp_min(0)


def _name(shape: tuple[int, int]) -> str:
    return "x".join(map(str, shape))
