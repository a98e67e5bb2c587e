"""ROME: a rank-one edit of one MLP output projection (Meng et al. 2022, arXiv 2202.05262).

The key averaged over contexts is used throughout, as r-ROME does: mixing it with the bare
prompt's key makes single edits that break the model (Gupta et al. 2024, arXiv 2403.07175).
"""

import dataclasses
from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from weight_patchers import hooks
from weight_patchers.contexts import sample
from weight_patchers.delta import Delta, LowRank
from weight_patchers.edit import Edit
from weight_patchers.errors import ComputationFailed, InvalidEdit
from weight_patchers.families import Projection, projection
from weight_patchers.rome.hparams import RomeHparams
from weight_patchers.rome.problem import kept_texts, pose
from weight_patchers.rome.value import Value, key, optimise, outcome
from weight_patchers.statistics import Statistics

METHOD = "rome"


def compute(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    edits: Sequence[Edit],
    hparams: RomeHparams,
    statistics: Statistics,
    *,
    contexts: Sequence[str] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Delta:
    """The delta that makes the edits, in order: each sees those before it.

    `statistics` are those of the base, whose fingerprint the delta gets; the model itself may
    already hold other deltas. `contexts` are the prefixes that keys are averaged over; by
    default they are sampled anew, so pass `sample_contexts(...)` when editing often.
    `progress(done, of)` counts edits. The model is left as it was found: parameters bit for bit,
    train/eval modes, requires_grad and hooks, also when an error is raised.
    Raises a PatcherError when the model, the edits or the statistics do not allow the edit.
    """
    if not edits:
        raise InvalidEdit("there is no edit to compute: give at least one")
    target = projection(model, hparams.layer)
    prefixes = sample_contexts(model, tokenizer, hparams) if contexts is None else contexts
    factors: list[tuple[Tensor, Tensor]] = []
    diagnostics = []
    with hooks.frozen(model), hooks.restored([target.weight]):
        base = target.matrix()
        total = torch.zeros_like(base)
        for number, edit in enumerate(edits):
            u, v, report = _edit(model, tokenizer, edit, target, prefixes, hparams, statistics)
            total += torch.outer(u, v)
            target.write(base + total)
            report |= outcome(model, pose(tokenizer, edit, prefixes, (), model.device))
            factors.append((u, v))
            diagnostics.append(report)
            if progress is not None:
                progress(number + 1, len(edits))
        relative_norm = float(total.norm() / base.norm())
    update = LowRank(
        u=torch.stack([u for u, _ in factors], dim=1).cpu(),
        v=torch.stack([v for _, v in factors], dim=1).cpu(),
        transposed=target.transposed,
    )
    return Delta(
        fingerprint=statistics.fingerprint,
        method=METHOD,
        hyperparameters=dataclasses.asdict(hparams),
        factors={target.name: update},
        edits=tuple(edits),
        diagnostics={"relative_norm": relative_norm, "edits": diagnostics},
    )


def sample_contexts(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, hparams: RomeHparams
) -> tuple[str, ...]:
    """The contexts that `compute` samples by default; the same for every edit of a model."""
    return sample(
        model,
        tokenizer,
        count=hparams.context_count,
        lengths=hparams.context_lengths,
        seed=hparams.seed,
    )


def _edit(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    edit: Edit,
    target: Projection,
    contexts: Sequence[str],
    hparams: RomeHparams,
    statistics: Statistics,
) -> tuple[Tensor, Tensor, dict[str, float]]:
    kept = kept_texts(model, tokenizer, edit.subject, hparams)
    problem = pose(tokenizer, edit, contexts, kept, model.device)
    k = key(model, target, problem)
    value = optimise(model, target, problem, k, hparams)
    direction, report = _direction(k, hparams, statistics)
    u, v = rank_one(k, value.delta, direction)
    return u, v, _report(value) | report


def rank_one(k: Tensor, delta: Tensor, direction: Tensor) -> tuple[Tensor, Tensor]:
    """Factors u, v of the update with (W + u v^T) k = W k + delta (Meng et al. 2022, eq. 2).

    `direction` is C^-1 k, float64 [d_in]; v is its unit vector and u = delta / (v . k), so the
    constraint holds whatever the direction, as long as v . k is not zero.
    """
    unit = direction / direction.norm()
    overlap = float(unit @ k.double())
    if not overlap > 0:
        raise ComputationFailed("the key is orthogonal to its own direction: remake the statistics")
    u, v = (delta.double() / overlap).float(), unit.float()
    if not (bool(torch.isfinite(u).all()) and bool(torch.isfinite(v).all())):
        raise ComputationFailed("the update is not finite: lower the clamp or the step")
    return u, v


def _direction(
    k: Tensor, hparams: RomeHparams, statistics: Statistics
) -> tuple[Tensor, dict[str, float]]:
    if not hparams.covariance:
        return k.double(), {}
    factor = statistics.factor(hparams.layer)
    direction = factor.solve(k.to(factor.lower.device)).to(k.device)
    return direction, {"ridge": factor.ridge, "condition": factor.condition}


def _report(value: Value) -> dict[str, float]:
    return {
        "steps": value.steps,
        "probability_before": value.probability_before,
        "probability_reached": value.probability_reached,
        "delta_norm": float(value.delta.norm()) / value.scale,
    }
