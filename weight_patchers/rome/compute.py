"""ROME: a rank-one edit of one MLP output projection (Meng et al. 2022, arXiv 2202.05262)."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from weight_patchers.controls import Controls
from weight_patchers.delta import Delta, LowRank
from weight_patchers.edit import Edit
from weight_patchers.errors import ComputationFailed
from weight_patchers.model import hooks
from weight_patchers.model.layers import Projection, projection
from weight_patchers.rome.hparams import RomeHparams
from weight_patchers.statistics import Statistics
from weight_patchers.values.contexts import Context
from weight_patchers.values.optimisation import Site, Values
from weight_patchers.values.workload import (
    Progress,
    Workload,
    find_values,
    observe,
    plan,
    report,
    surround,
)

METHOD = "rome"


def compute(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    edits: Sequence[Edit],
    hparams: RomeHparams,
    statistics: Statistics,
    *,
    contexts: Sequence[Context] | None = None,
    live: Sequence[Delta] = (),
    controls: Sequence[str] | None = None,
    progress: Progress | None = None,
) -> Delta:
    """The delta that makes the edits, in order: each sees those before it.

    `statistics` are those of the base, whose fingerprint the delta gets; the model itself may
    already hold the deltas `live`. `contexts` are what keys are averaged over; by default they
    are sampled anew, so pass `surround(...)` when editing often. Drift is measured on the prompts
    `controls`, by default those of `weight_patchers.controls`. `progress(done, of)` counts edits.
    The model is left as it was found: parameters bit for bit, train/eval modes, requires_grad and
    hooks, also when an error is raised.
    Raises a PatcherError when the model, the edits or the statistics do not allow the edit.
    """
    target = projection(model, hparams.layer)
    site = Site(hparams.layer, (target.module,))
    surroundings = surround(model, tokenizer, hparams) if contexts is None else contexts
    made: list[_Update] = []
    with hooks.frozen(model), hooks.restored([target.weight]):
        watched = Controls.watch(model, tokenizer, controls)
        base = target.matrix()
        total = torch.zeros_like(base)
        for number, edit in enumerate(edits):
            work = plan(model, tokenizer, [edit], surroundings, hparams)
            values = find_values(model, site, work, hparams)
            update = _update(model, target, hparams, statistics, work, values)
            total += torch.outer(update.u, update.v)
            target.write(base + total)
            update.told.update(report(model, work, values)[0])
            made.append(update)
            if progress is not None:
                progress(number + 1, len(edits))
        return _delta(target, base, edits, hparams, statistics, made, watched.drift(model))


def compute_each(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    edits: Sequence[Edit],
    hparams: RomeHparams,
    statistics: Statistics,
    *,
    contexts: Sequence[Context] | None = None,
    live: Sequence[Delta] = (),
    controls: Sequence[str] | None = None,
    progress: Progress | None = None,
) -> list[Delta]:
    """A delta for each edit alone, as so many calls of `compute` give, up to rounding; faster, as
    the values are optimised side by side."""
    found: list[Delta] = []
    if not edits:
        return found
    target = projection(model, hparams.layer)
    site = Site(hparams.layer, (target.module,))
    surroundings = surround(model, tokenizer, hparams) if contexts is None else contexts
    with hooks.frozen(model), hooks.restored([target.weight]):
        watched = Controls.watch(model, tokenizer, controls)
        base = target.matrix()
        work = plan(model, tokenizer, edits, surroundings, hparams)
        values = find_values(model, site, work, hparams, progress)
        for edit, alone, own in zip(edits, work.each(), values.each([1] * len(edits)), strict=True):
            target.write(base)
            update = _update(model, target, hparams, statistics, alone, own)
            target.write(base + torch.outer(update.u, update.v))
            update.told.update(report(model, alone, own)[0])
            drift = watched.drift(model)
            found.append(_delta(target, base, [edit], hparams, statistics, [update], drift))
    return found


def rank_one(k: Tensor, delta: Tensor, direction: Tensor) -> tuple[Tensor, Tensor]:
    """Factors u, v of the update with (W + u v^T) k = W k + delta (Meng et al. 2022, eq. 2).

    `direction` is C^-1 k, float64 [d_in]; v is its unit vector and u = delta / (v . k), so the
    constraint holds whatever the direction, as long as v . k is not zero. With a direction from
    another key than k, as first published, v . k may be small and the edit breaks the model
    (Gupta et al. 2024, arXiv 2403.07175).
    """
    unit = direction / direction.norm()
    overlap = float(unit @ k.double())
    if overlap == 0:
        raise ComputationFailed("the key is orthogonal to its own direction: remake the statistics")
    u, v = (delta.double() / overlap).float(), unit.float()
    if not (bool(torch.isfinite(u).all()) and bool(torch.isfinite(v).all())):
        raise ComputationFailed("the update is not finite: lower the clamp or the step")
    return u, v


@dataclass(frozen=True, eq=False)
class _Update:
    """Factors u [d_out] and v [d_in], and numbers to report."""

    u: Tensor
    v: Tensor
    told: dict[str, Any]


def _update(
    model: PreTrainedModel,
    target: Projection,
    hparams: RomeHparams,
    statistics: Statistics,
    work: Workload,
    values: Values,
) -> _Update:
    (averaged,) = observe(model, {0: target}, {}, work.problems)[0].values()
    (alone,) = observe(model, {0: target}, {}, work.problems, bare=True)[0].values()
    keys = {"averaged": (averaged, averaged), "mixed": (averaged, alone)}
    weighed, met = keys.get(hparams.keys, (alone, alone))
    direction, numerics = _direction(weighed[0], hparams, statistics)
    u, v = rank_one(met[0], values.delta[0, 0], direction)
    return _Update(u, v, dict(numerics))


def _delta(
    target: Projection,
    base: Tensor,
    edits: Sequence[Edit],
    hparams: RomeHparams,
    statistics: Statistics,
    made: Sequence[_Update],
    drift: dict[str, float],
) -> Delta:
    """One delta of all updates; with none, it changes nothing."""
    if not made:
        return Delta.nothing(statistics.fingerprint, METHOD, asdict(hparams))
    update = LowRank(
        u=torch.stack([one.u for one in made], dim=1).cpu(),
        v=torch.stack([one.v for one in made], dim=1).cpu(),
        transposed=target.transposed,
    )
    norm = float(update.dense().norm() / base.norm().cpu())
    return Delta(
        fingerprint=statistics.fingerprint,
        method=METHOD,
        hyperparameters=asdict(hparams),
        changes={target.name: update},
        edits=tuple(edits),
        diagnostics={
            "relative_norm": {target.name: norm},
            "drift": drift,
            "edits": [one.told for one in made],
        },
    )


def _direction(
    k: Tensor, hparams: RomeHparams, statistics: Statistics
) -> tuple[Tensor, dict[str, float]]:
    if not hparams.covariance:
        return k.double(), {}
    factor = statistics.factor(hparams.layer)
    direction = factor.solve(k.to(factor.lower.device)).to(k.device)
    return direction, factor.told()
