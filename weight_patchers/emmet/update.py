"""EMMET's closed form (Gupta et al. 2024, arXiv 2403.14236, eq. 12)."""

import torch
from torch import Tensor

from weight_patchers.errors import ComputationFailed
from weight_patchers.statistics.factor import Factor


def columns(factor: Factor, keys: Tensor, weight: float, ridge: float) -> Tensor:
    """V = D^-1 K^T (weight C)^-1, transposed to float64 [d_in, n], for keys K [d_in, n],

    with D = K^T (weight C)^-1 K + ridge I. Without a ridge V^T K = I: the update meets
    W' K = W K + R exactly, and is the smallest that does, as ROME's is for one edit.
    Raises ComputationFailed when D cannot be inverted: keys that depend on each other can have
    values of their own only with a ridge.
    """
    keys = keys.to(factor.lower)
    solved = factor.solve(keys) / weight
    small = keys.T @ solved
    small.diagonal().add_(ridge)
    lower, failed = torch.linalg.cholesky_ex((small + small.T) / 2)
    if int(failed):
        raise ComputationFailed("keys of the edits depend on each other: set a ridge above 0")
    return torch.cholesky_solve(solved.T, lower).T
