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


def adjusted_keys(
    space: Tensor, keys: Tensor, past: Tensor, ridge: float, other: Tensor | None = None
) -> Tensor:
    """V with V^T = K^T P (K K^T P + Kp Kp^T P + ridge I)^-1, float64 [d_in, n] (eq. 14).

    `space` [d_in, s] spans the null space, P = space space^T; `keys` K [d_in, n] are the edits',
    `past` Kp [d_in, m] those of edits made before. In the coordinates of the space, with
    Q = space^T K and A = [Q, Qp], the same is V = space (A A^T + ridge I)^-1 Q: symmetric and
    positive definite. While n + m is smaller than s it is solved in n + m dimensions:
    (A A^T + ridge I)^-1 A = A (A^T A + ridge I)^-1.

    `other` [s, s] is space^T (weight C) space, added to A A^T: the keys of other text count inside
    the space too (BetaEdit, arXiv 2605.09285). Where the space is everything, that is MEMIT's
    solution with an identity and with past keys (ENCORE, arXiv 2502.01636).
    """
    n = keys.shape[1]
    inside = space.T @ torch.cat([keys, past], dim=1)
    if other is None and inside.shape[1] < inside.shape[0]:
        small = inside.T @ inside
        small.diagonal().add_(ridge)
        unit = torch.eye(len(small), n, dtype=small.dtype, device=small.device)
        solved = inside @ torch.cholesky_solve(unit, torch.linalg.cholesky(small))
    else:
        total = inside @ inside.T
        if other is not None:
            total += other
        total.diagonal().add_(ridge)
        solved = torch.cholesky_solve(inside[:, :n], torch.linalg.cholesky(total))
    return space @ solved


def past_keys(live: Sequence[Delta], target: Projection, edited: set[str]) -> Tensor:
    """Keys [d_in, m] of the live deltas' subjects that are not `edited`; of each its latest."""
    keys = {
        edit.subject: delta.keys[target.name][:, column :: len(delta.edits)]
        for delta in live
        if target.name in delta.keys
        for column, edit in enumerate(delta.edits)
        if edit.subject not in edited
    }
    return torch.cat(list(keys.values()), dim=1) if keys else torch.zeros(target.d_in, 0)


def _solve(job: Job, layer: int, keys: Tensor) -> tuple[Tensor, dict[str, float]]:
    hparams = job.hparams
    subjects = {edit.subject for edit in job.edits}
    past = past_keys(job.live, projection(job.model, layer), subjects)
    given = hparams.null_threshold, hparams.null_share
    if hparams.past_weight and past.shape[1]:
        moment = renewed_moment(job.statistics.moment(layer), past, hparams.past_weight)
        space = null_space(moment, *given)
        inside = _moment_inside(job.statistics, layer, space)
    else:
        space, inside = _space(job.statistics, layer, *given)
    weight = hparams.covariance_weight
    other = weight * inside if weight else None
    adjusted = adjusted_keys(space, keys.to(space), past.to(space), hparams.ridge, other)
    numerics = {"null_space": float(space.shape[1]), "past_keys": float(past.shape[1])}
    return adjusted.to(keys.device), numerics


def renewed_moment(moment: Tensor, past: Tensor, weight: float) -> Tensor:
    """C + weight * mean of k k^T over the past keys [d_in, m], float64 (BetaEdit)."""
    past = past.double()
    return moment.double() + weight / past.shape[1] * past @ past.T


@lru_cache(maxsize=16)
def _space(
    statistics: Statistics, layer: int, threshold: float | None, share: float | None
) -> tuple[Tensor, Tensor]:
    """The layer's null space and the moment in it: the statistics of a base do not change."""
    space = null_space(statistics.moment(layer), threshold, share)
    return space, _moment_inside(statistics, layer, space)


def _moment_inside(statistics: Statistics, layer: int, space: Tensor) -> Tensor:
    """space^T C space [s, s]."""
    return space.T @ statistics.moment(layer).to(space) @ space


ALPHAEDIT = SpreadMethod("alphaedit", _solve, keep_keys=True)
