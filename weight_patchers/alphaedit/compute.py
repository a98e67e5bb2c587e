"""AlphaEdit: updates in the null space of other knowledge (Fang et al. 2025, arXiv 2410.02355).

The keys of earlier edits keep their values: they are read from the live deltas, so taking a delta
back takes its keys back too. A subject that is edited again is left out, because its value is
what now changes.
"""

from collections.abc import Sequence
from functools import lru_cache

import torch
from torch import Tensor

from weight_patchers.delta import Delta
from weight_patchers.errors import UnusableStatistics
from weight_patchers.job import Job
from weight_patchers.model.layers import Projection, projection
from weight_patchers.spreading.compute import SpreadMethod
from weight_patchers.statistics import Statistics


def null_space(moment: Tensor, threshold: float | None, share: float | None) -> Tensor:
    """Orthonormal columns [d_in, s], float64, along which the keys of other text are almost 0.

    They are the eigenvectors of the second moment C [d_in, d_in] with eigenvalues below
    `threshold` (eq. 7), or, if `share` is given, that share of all with the smallest
    eigenvalues, which does not depend on the scale of the keys.
    Raises UnusableStatistics when there are none.
    """
    values: Tensor
    vectors: Tensor
    values, vectors = torch.linalg.eigh(moment.double())
    if share is not None:
        count = round(share * len(values))
    elif threshold is not None:
        count = int((values < threshold).sum())
    else:
        raise UnusableStatistics("a null space needs a threshold or a share: give one")
    if count == 0:
        raise UnusableStatistics(
            f"no direction of the keys has a second moment below {threshold}: "
            "raise null_threshold, or set null_share, for example to 0.7"
        )
    return vectors[:, :count]


def adjusted_keys(space: Tensor, keys: Tensor, past: Tensor, ridge: float) -> Tensor:
    """V with V^T = K^T P (K K^T P + Kp Kp^T P + ridge I)^-1, float64 [d_in, n] (eq. 14).

    `space` [d_in, s] spans the null space, P = space space^T; `keys` K [d_in, n] are the edits',
    `past` Kp [d_in, m] those of edits made before. In the coordinates of the space, with
    Q = space^T K and A = [Q, Qp], the same is V = space (A A^T + ridge I)^-1 Q: symmetric and
    positive definite. While n + m is smaller than s it is solved in n + m dimensions:
    (A A^T + ridge I)^-1 A = A (A^T A + ridge I)^-1.
    """
    n = keys.shape[1]
    inside = space.T @ torch.cat([keys, past], dim=1)
    if inside.shape[1] < inside.shape[0]:
        small = inside.T @ inside
        small.diagonal().add_(ridge)
        unit = torch.eye(len(small), n, dtype=small.dtype, device=small.device)
        solved = inside @ torch.cholesky_solve(unit, torch.linalg.cholesky(small))
    else:
        total = inside @ inside.T
        total.diagonal().add_(ridge)
        solved = torch.cholesky_solve(inside[:, :n], torch.linalg.cholesky(total))
    return space @ solved


def past_keys(live: Sequence[Delta], target: Projection, edited: set[str]) -> Tensor:
    """Keys [d_in, m] of the live deltas' subjects that are not `edited`; of each its latest."""
    keys = {
        edit.subject: delta.keys[target.name][:, column]
        for delta in live
        if target.name in delta.keys
        for column, edit in enumerate(delta.edits)
        if edit.subject not in edited
    }
    return torch.stack(list(keys.values()), dim=1) if keys else torch.zeros(target.d_in, 0)


def _solve(job: Job, layer: int, keys: Tensor) -> tuple[Tensor, dict[str, float]]:
    hparams = job.hparams
    space = _space(job.statistics, layer, hparams.null_threshold, hparams.null_share)
    subjects = {edit.subject for edit in job.edits}
    past = past_keys(job.live, projection(job.model, layer), subjects)
    adjusted = adjusted_keys(space, keys.to(space), past.to(space), hparams.ridge)
    numerics = {"null_space": float(space.shape[1]), "past_keys": float(past.shape[1])}
    return adjusted.to(keys.device), numerics


@lru_cache(maxsize=16)
def _space(
    statistics: Statistics, layer: int, threshold: float | None, share: float | None
) -> Tensor:
    """The layer's null space, computed once: the statistics of a base do not change."""
    return null_space(statistics.moment(layer), threshold, share)


ALPHAEDIT = SpreadMethod("alphaedit", _solve, keep_keys=True)
