"""ROME: a rank-one edit of one MLP output projection (Meng et al. 2022, arXiv 2202.05262)."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from weight_patchers.delta import Delta, LowRank
from weight_patchers.errors import ComputationFailed
from weight_patchers.job import Job
from weight_patchers.model.layers import Projection
from weight_patchers.values.optimisation import Site, TargetValues
from weight_patchers.values.problem import Problem
from weight_patchers.values.workload import (
    Workload,
    compute_z,
    edit_reports,
    keys_and_states,
    plan_workload,
)

METHOD = "rome"

# Keys closer to each other than this, in the metric of C, are met as one.
_PARALLEL = 1e-8


def compute(job: Job) -> Delta:
    """The delta that makes the edits, in order: each sees those before it."""
    contexts = job.contexts_or_sampled()
    updates: list[_Update] = []
    with job.writable() as (targets, controls):
        (target,) = targets.values()
        base = target.matrix()
        total = torch.zeros_like(base)
        for number, edit in enumerate(job.edits):
            work = plan_workload(job.model, job.tokenizer, [edit], contexts, job.hparams)
            values = compute_z(job.model, _site(target), work, job.hparams)
            update = _update(job, target, work, values)
            total += torch.outer(update.u, update.v)
            target.write(base + total)
            update.report.update(edit_reports(job.model, work, values)[0])
            updates.append(update)
            if job.progress is not None:
                job.progress(number + 1, len(job.edits))
        return _delta(job, target, base, updates, controls.drift(job.model))


def compute_each(job: Job) -> list[Delta]:
    """A delta for each edit alone, equal to one call of `compute` per edit up to rounding.

    It is faster, because the values are optimised side by side.
    """
    deltas: list[Delta] = []
    if not job.edits:
        return deltas
    contexts = job.contexts_or_sampled()
    with job.writable() as (targets, controls):
        (target,) = targets.values()
        base = target.matrix()
        work = plan_workload(job.model, job.tokenizer, job.edits, contexts, job.hparams)
        values = compute_z(job.model, _site(target), work, job.hparams, job.progress)
        for own, own_work, own_values in job.each(work, values):
            target.write(base)
            update = _update(own, target, own_work, own_values)
            target.write(base + torch.outer(update.u, update.v))
            update.report.update(edit_reports(job.model, own_work, own_values)[0])
            deltas.append(_delta(own, target, base, [update], controls.drift(job.model)))
    return deltas


def rank_one(keys: Tensor, delta: Tensor, directions: Tensor) -> tuple[Tensor, Tensor]:
    """Factors u, v of the update with (W + u v^T) k = W k + delta for each of the `keys` [n, d_in].

    `directions` S [n, d_in] are C^-1 k, float64. For one key, v is its unit vector and
    u = delta / (v . k) (Meng et al. 2022, eq. 2), so the constraint holds whatever the direction,
    as long as v . k is not zero. With a direction from another key, as first published, v . k may
    be small and the edit breaks the model (Gupta et al. 2024, arXiv 2403.07175). For several,
    v = S^T (K S^T)^-1 1: of all that meet the constraints, the smallest change in the metric of C.
    """
    metric = keys.double() @ directions.T
    solved = directions.T @ torch.linalg.pinv(metric, rtol=_PARALLEL).sum(1)
    length = solved.norm()
    if not float(length):
        raise ComputationFailed("the key is orthogonal to its own direction: remake the statistics")
    u, v = (delta.double() * length).float(), (solved / length).float()
    if not (bool(torch.isfinite(u).all()) and bool(torch.isfinite(v).all())):
        raise ComputationFailed("the update is not finite: lower the clamp or the step")
    return u, v


@dataclass(frozen=True, eq=False)
class _Update:
    """Factors u [d_out] and v [d_in], and the edit's diagnostics."""

    u: Tensor
    v: Tensor
    report: dict[str, Any]


def _site(target: Projection) -> Site:
    return Site(target.layer, (target.module,))


def _update(job: Job, target: Projection, work: Workload, values: TargetValues) -> _Update:
    """The rank-one update of one edit; `RomeHparams.keys` chooses the keys."""
    means = {"both": [Problem.apart], "averaged": [Problem.average], "prompt": [Problem.alone]}
    found = [
        keys_and_states(job.model, {0: target}, {}, work.problems, mean=mean)[0][0][:, 0]
        for mean in means.get(job.hparams.keys, [Problem.average, Problem.alone])
    ]
    directions, numerics = _directions(job, found[0])
    u, v = rank_one(found[-1], values.delta[0, 0], directions)
    return _Update(u, v, dict(numerics))


def _delta(
    job: Job,
    target: Projection,
    base: Tensor,
    updates: Sequence[_Update],
    drift: dict[str, float],
) -> Delta:
    """One delta of all updates; with none, it changes nothing."""
    if not updates:
        return job.nothing(METHOD)
    change = LowRank(
        u=torch.stack([update.u for update in updates], dim=1).cpu(),
        v=torch.stack([update.v for update in updates], dim=1).cpu(),
        transposed=target.transposed,
    )
    norm = float(change.dense().norm() / base.norm().cpu())
    diagnostics = {
        "relative_norm": {target.name: norm},
        "drift": drift,
        "edits": [update.report for update in updates],
    }
    return job.delta(METHOD, {target.name: change}, diagnostics)


def _directions(job: Job, keys: Tensor) -> tuple[Tensor, dict[str, float]]:
    """C^-1 k for each of the keys [n, d_in], float64, and the numbers of the solution."""
    if not job.hparams.covariance:
        return keys.double(), {}
    factor = job.statistics.factor(job.hparams.layer)
    solved = factor.solve(keys.T.to(factor.lower)).T.to(keys.device)
    return solved, factor.diagnostics()
