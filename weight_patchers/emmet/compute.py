"""EMMET: equality-constrained mass editing (Gupta et al. 2024, arXiv 2403.14236).

As MEMIT, with the values of the edits' keys as constraints.
"""

import torch
from torch import Tensor

from weight_patchers.errors import ComputationFailed
from weight_patchers.job import Job
from weight_patchers.spreading.compute import SpreadMethod
from weight_patchers.statistics.factor import Factor


def adjusted_keys(factor: Factor, keys: Tensor, weight: float, ridge: float) -> Tensor:
    """V^T = D^-1 K^T (weight C)^-1 with D = K^T (weight C)^-1 K + ridge I (eq. 12).

    V is float64 [d_in, n], for keys K [d_in, n]; `factor` is that of C. Without a ridge
    V^T K = I: the update meets W' K = W K + R exactly, and is the smallest that does, as ROME's
    is for one edit. Raises ComputationFailed when D cannot be inverted: keys that depend on each
    other can have values of their own only with a ridge.
    """
    keys = keys.to(factor.lower)
    solved = factor.solve(keys) / weight
    small = keys.T @ solved
    small.diagonal().add_(ridge)
    lower, failed = torch.linalg.cholesky_ex((small + small.T) / 2)
    if int(failed):
        raise ComputationFailed("keys of the edits depend on each other: set a ridge above 0")
    return torch.cholesky_solve(solved.T, lower).T


def _solve(job: Job, layer: int, keys: Tensor) -> tuple[Tensor, dict[str, float]]:
    factor = job.statistics.factor(layer)
    ridge = job.hparams.ridge if keys.shape[1] > 1 else 0.0
    adjusted = adjusted_keys(factor, keys, job.hparams.covariance_weight, ridge)
    return adjusted.to(keys.device), factor.diagnostics()


EMMET = SpreadMethod("emmet", _solve)
