"""MEMIT's closed form (Meng et al. 2023, arXiv 2210.07229, eq. 14)."""

import torch
from torch import Tensor

from weight_patchers.statistics.factor import Factor


def columns(factor: Factor, keys: Tensor, weight: float) -> Tensor:
    """V = (weight C + K K^T)^-1 K, float64 [d_in, n], for keys K [d_in, n].

    `factor` is C's, used again for every batch: with S = C^-1 K, V = S (weight I + K^T S)^-1
    (Woodbury). From n = d_in on the sum is factored itself, which is then cheaper.
    """
    keys = keys.to(factor.lower)
    d_in, n = keys.shape
    if n >= d_in:
        total = weight * (factor.lower @ factor.lower.T) + keys @ keys.T
        return torch.cholesky_solve(keys, torch.linalg.cholesky(total))
    solved = factor.solve(keys)
    small = keys.T @ solved
    small.diagonal().add_(weight)
    return torch.cholesky_solve(solved.T, torch.linalg.cholesky((small + small.T) / 2)).T
