"""Muon: momentum with an orthogonalised update, computed for all matrices of a shape at once.

Not torch.optim.Muon, which orthogonalises one matrix at a time in bfloat16.
"""

import torch
from torch import Tensor

# Quintic Newton-Schulz coefficients (Jordan et al., 2024, "Muon").
A, B, C = 3.4445, -4.7750, 2.0315


def orthogonal(matrices: Tensor, steps: int = 5) -> Tensor:
    """Approximately U Vᵀ of each matrix [n, rows, columns], rows <= columns."""
    states: Tensor = matrices / (matrices.norm(dim=(1, 2), keepdim=True) + 1e-7)
    for _ in range(steps):
        gram = states @ states.mT
        states = A * states + (B * gram + C * gram @ gram) @ states
    return states


def _gradient(parameter: Tensor, flip: bool) -> Tensor:
    gradient = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
    return gradient.T if flip else gradient


class Muon:
    """Nesterov momentum, orthogonalised, with decoupled weight decay."""

    def __init__(self, parameters: list[Tensor], momentum: float, decay: float) -> None:
        self._momentum = momentum
        self._decay = decay
        self._groups: list[tuple[list[Tensor], Tensor]] = []
        shapes = sorted({tuple(sorted(p.shape)) for p in parameters})
        for shape in shapes:
            group = [p for p in parameters if tuple(sorted(p.shape)) == shape]
            self._groups.append((group, torch.zeros(len(group), *shape, device=group[0].device)))

    def state(self) -> list[Tensor]:
        """The momenta."""
        return [momentum for _, momentum in self._groups]

    def load(self, momenta: list[Tensor]) -> None:
        for (_, momentum), saved in zip(self._groups, momenta, strict=True):
            momentum.copy_(saved)

    @torch.no_grad()
    def step(self, rate: float) -> None:
        """Update every parameter from its gradient and clear the gradients."""
        for group, momentum in self._groups:
            flipped = [p.shape[0] > p.shape[1] for p in group]
            pairs = list(zip(group, flipped, strict=True))
            gradient = torch.stack([_gradient(p, flip) for p, flip in pairs])
            momentum.lerp_(gradient, 1 - self._momentum)
            updates = orthogonal(gradient.lerp(momentum, self._momentum))
            for (parameter, flip), orthogonal_update in zip(pairs, updates, strict=True):
                update = orthogonal_update.T if flip else orthogonal_update
                scale = max(1.0, parameter.shape[0] / parameter.shape[1]) ** 0.5
                parameter.mul_(1 - rate * self._decay)
                parameter.add_(update, alpha=-rate * scale)
                parameter.grad = None
