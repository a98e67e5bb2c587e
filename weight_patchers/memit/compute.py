"""MEMIT: many edits in one update of several layers (Meng et al. 2023, arXiv 2210.07229)."""

from functools import lru_cache

import torch
from torch import Tensor

from weight_patchers.job import Job
from weight_patchers.spreading.compute import SpreadMethod
from weight_patchers.statistics import Statistics
from weight_patchers.statistics.factor import Factor, factorize


def adjusted_keys(factor: Factor, keys: Tensor, weight: float) -> Tensor:
    """V = (weight C + K K^T)^-1 K, float64 [d_in, n], for keys K [d_in, n] (eq. 14).

    `factor` is that of C, used again for every batch: with S = C^-1 K, V = S (weight I + K^T S)^-1
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


def solve(job: Job, layer: int, keys: Tensor) -> tuple[Tensor, dict[str, float]]:
    """`adjusted_keys` of one layer; PMET solves its layers in the same way."""
    weight, ridge = job.hparams.covariance_weight, job.hparams.ridge
    factor = _factor(job.statistics, layer, ridge / weight)
    return adjusted_keys(factor, keys, weight).to(keys.device), factor.diagnostics()


@lru_cache(maxsize=16)
def _factor(statistics: Statistics, layer: int, ridge: float) -> Factor:
    """The factor of C + ridge I, computed once: weight C + r I = weight (C + r / weight I)."""
    if not ridge:
        return statistics.factor(layer)
    moment = statistics.moment(layer).double()
    return factorize(moment + ridge * torch.eye(len(moment), dtype=moment.dtype))


MEMIT = SpreadMethod("memit", solve)
