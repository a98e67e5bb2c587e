"""Solves with symmetric matrices that may be only nearly positive definite."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from weight_patchers.errors import UnusableStatistics

# A second moment summed in float32 blocks carries noise of about 1e-8 of its largest eigenvalue:
# directions below that are noise, and inverting them would amplify it.
MAX_CONDITION = 1e8
_ITERATIONS = 12
_MAX_DOUBLINGS = 60


@dataclass(frozen=True, eq=False)
class Factor:
    """The Cholesky factor of A + ridge I, float64 lower [d, d].

    `ridge` is 0 when A itself was well conditioned; `condition` estimates the condition
    number of A + ridge I from a few power iterations (a lower bound, near the true value).
    """

    lower: Tensor
    ridge: float
    condition: float

    def diagnostics(self) -> dict[str, float]:
        """Its entry in a delta's diagnostics."""
        return {"ridge": self.ridge, "condition": self.condition}

    def solve(self, right: Tensor) -> Tensor:
        """(A + ridge I)^-1 right, float64; right is [d] or [d, n]."""
        columns = right.double().reshape(self.lower.shape[0], -1)
        return torch.cholesky_solve(columns, self.lower).reshape(right.shape)


def factorize(matrix: Tensor, max_condition: float = MAX_CONDITION) -> Factor:
    """Factor the symmetric matrix [d, d] in float64, adding the smallest sufficient ridge.

    The ridge starts at the largest eigenvalue over `max_condition`, which is what a matrix with
    a zero eigenvalue needs, and doubles while the matrix is still not positive definite or its
    condition estimate passes the bound. Raises UnusableStatistics when the matrix is not square,
    not finite, or zero.
    """
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1]:
        raise UnusableStatistics(f"a matrix of shape {tuple(matrix.shape)} is not square")
    if not bool(torch.isfinite(matrix).all()):
        raise UnusableStatistics("the statistics hold values that are not finite: make them again")
    matrix = matrix.double()
    matrix = (matrix + matrix.T) / 2
    largest = _largest_eigenvalue(matrix)
    if largest <= 0.0 or not math.isfinite(largest):
        raise UnusableStatistics("the statistics are all zero: make them from more text")
    ridge = 0.0
    for _ in range(_MAX_DOUBLINGS):
        factor = _try_factor(matrix, ridge, largest)
        if factor is not None and factor.condition <= max_condition * (1 + 1e-6):
            return factor
        ridge = 2 * ridge if ridge else largest / max_condition
    raise UnusableStatistics("the statistics are not positive semidefinite: make them again")


def _try_factor(matrix: Tensor, ridge: float, largest: float) -> Factor | None:
    shifted = matrix.clone()
    shifted.diagonal().add_(ridge)
    lower, failed = torch.linalg.cholesky_ex(shifted)
    if int(failed):
        return None
    smallest = 1.0 / _largest_of_inverse(lower)
    return Factor(lower, ridge, (largest + ridge) / smallest)


def _largest_eigenvalue(matrix: Tensor) -> float:
    vector = _start(matrix)
    value = 0.0
    for _ in range(_ITERATIONS):
        vector = matrix @ vector
        value = float(vector.norm())
        if value == 0.0:
            return 0.0
        vector = vector / value
    return value


def _largest_of_inverse(lower: Tensor) -> float:
    vector = _start(lower)[:, None]
    value = 0.0
    for _ in range(_ITERATIONS):
        vector = torch.cholesky_solve(vector, lower)
        value = float(vector.norm())
        vector = vector / value
    return value


def _start(matrix: Tensor) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    vector = torch.randn(matrix.shape[0], dtype=torch.float64, generator=generator)
    unit: Tensor = vector / vector.norm()
    return unit.to(matrix.device)
