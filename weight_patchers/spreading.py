"""Edits spread over several layers at once: what MEMIT and its relatives share."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from weight_patchers import hooks
from weight_patchers.controls import Controls
from weight_patchers.delta import Delta, LowRank
from weight_patchers.edit import Edit, require_distinct
from weight_patchers.errors import ComputationFailed
from weight_patchers.families import Projection, projection
from weight_patchers.spread_hparams import SpreadHparams
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

# V [d_in, n], float64, for the keys K [d_in, n] of a layer, and numbers to report: the layer's
# update is W' = W + R V^T for the residuals R [d_out, n].
Columns = Callable[[int, Tensor], tuple[Tensor, dict[str, float]]]


@dataclass(frozen=True, eq=False)
class Spread:
    """What one method does in its own way.

    `site` says where values are optimised at the last layer; what is missing there is measured
    at its last module. `share(left)` is the part of it that a layer takes when `left` layers
    are to come, itself included. `keep_keys` puts the edits' keys in the delta.
    """

    method: str
    site: Callable[[Projection], Site]
    columns: Columns
    share: Callable[[int], float] = lambda left: 1 / left
    keep_keys: bool = False


def spread(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    edits: Sequence[Edit],
    hparams: SpreadHparams,
    fingerprint: str,
    how: Spread,
    *,
    contexts: Sequence[Context] | None = None,
    controls: Sequence[str] | None = None,
    progress: Progress | None = None,
) -> Delta:
    """One delta for all edits (Meng et al. 2023, "Mass-editing memory in a transformer", §4).

    Values are optimised at the last of the layers in the model as it is. Then each layer in
    ascending order, with those below it written, takes its share of what is still missing there:
    R = share * (z - h), W' = W + R V^T. The arguments and the errors are those of `compute` of
    the methods; the model is left as it was found.
    """
    if not edits:
        return Delta.nothing(fingerprint, how.method, asdict(hparams))
    require_distinct(edits)
    targets = {layer: projection(model, layer) for layer in hparams.layers}
    site = how.site(targets[hparams.layers[-1]])
    surroundings = surround(model, tokenizer, hparams) if contexts is None else contexts
    with hooks.frozen(model), hooks.restored([target.weight for target in targets.values()]):
        watched = Controls.watch(model, tokenizer, controls)
        work = plan(
            model,
            tokenizer,
            edits,
            surroundings,
            hparams,
            share_subjects=hparams.share_subjects,
            bare_share=hparams.bare_share,
        )
        values = find_values(model, site, work, hparams, progress)
        changes, norms, numerics = _write(model, targets, site, work, values, how)
        found = observe(model, targets, {}, work.problems)[0] if how.keep_keys else {}
        return Delta(
            fingerprint=fingerprint,
            method=how.method,
            hyperparameters=asdict(hparams),
            changes=changes,
            edits=tuple(edits),
            diagnostics={
                "relative_norm": norms,
                "drift": watched.drift(model),
                "layers": numerics,
                "edits": report(model, work, values),
            },
            keys={targets[layer].name: _by_edit(work, keys) for layer, keys in found.items()},
        )


def _write(
    model: PreTrainedModel,
    targets: dict[int, Projection],
    site: Site,
    work: Workload,
    values: Values,
    how: Spread,
) -> tuple[dict[str, LowRank], dict[str, float], dict[str, Any]]:
    """Write layer after layer; the changes and relative norms by name, numerics by layer."""
    changes, norms, numerics = {}, {}, {}
    goal = None
    for number, (layer, target) in enumerate(targets.items()):
        keys, states = observe(model, {layer: target}, {0: site.modules[-1]}, work.problems)
        if goal is None:
            goal = states[0] + values.delta[-1]
        v, numerics[str(layer)] = how.columns(layer, keys[layer].T.double())
        u = (goal - states[0]).T * how.share(len(targets) - number)
        v = v.float()
        if not (bool(torch.isfinite(u).all()) and bool(torch.isfinite(v).all())):
            raise ComputationFailed("the update is not finite: lower the clamp or the step")
        base = target.matrix()
        change = u @ v.T
        norms[target.name] = float(change.norm() / base.norm())
        target.write(base + change)
        changes[target.name] = LowRank(u.cpu().contiguous(), v.cpu(), target.transposed)
    return changes, norms, numerics


def _by_edit(work: Workload, keys: Tensor) -> Tensor:
    """Keys [d_in, edits] in the order the edits were given, from those of the groups."""
    owner = [group for group, edits in enumerate(work.groups) for _ in edits]
    places = torch.tensor(work.order).argsort()
    return keys[torch.tensor(owner)[places]].T.cpu().contiguous()
