"""AlphaEdit: updates in the null space of other knowledge (Fang et al. 2025, arXiv 2410.02355)."""

from collections.abc import Sequence
from functools import lru_cache, partial

import torch
from torch import Tensor
from transformers import PreTrainedModel

from weight_patchers.alphaedit.hparams import AlphaEditHparams
from weight_patchers.alphaedit.update import columns, null_space
from weight_patchers.delta import Delta
from weight_patchers.edit import Edit
from weight_patchers.model.layers import Projection, layers, projection
from weight_patchers.spreading.compute import Spread, spread, spread_each
from weight_patchers.statistics import Statistics
from weight_patchers.values.optimisation import Site

METHOD = "alphaedit"


def recipe(
    model: PreTrainedModel,
    edits: Sequence[Edit],
    hparams: AlphaEditHparams,
    statistics: Statistics,
    live: Sequence[Delta],
) -> Spread:
    """The keys of the `live` deltas' edits shall keep their values. These running statistics are
    nothing but what the live deltas carry, so taking a delta back takes its keys back too. A
    subject that is edited again is left out: its value is what now changes.
    """
    subjects = {edit.subject for edit in edits}

    def site(target: Projection) -> Site:
        return Site(target.layer, (layers(model)[target.layer],))

    def solve(layer: int, keys: Tensor) -> tuple[Tensor, dict[str, float]]:
        space = _space(statistics, layer, hparams.null_threshold, hparams.null_share)
        past = past_keys(live, projection(model, layer), subjects)
        found = columns(space, keys.to(space), past.to(space), hparams.ridge)
        told = {"null_space": float(space.shape[1]), "past_keys": float(past.shape[1])}
        return found.to(keys.device), told

    return Spread(METHOD, site, solve, keep_keys=True)


compute = partial(spread, recipe)
compute_each = partial(spread_each, recipe)


@lru_cache(maxsize=16)
def _space(
    statistics: Statistics, layer: int, threshold: float | None, share: float | None
) -> Tensor:
    """The layer's null space, found once: the statistics of a base do not change."""
    return null_space(statistics.moment(layer), threshold, share)


def past_keys(live: Sequence[Delta], target: Projection, but: set[str]) -> Tensor:
    """Keys [d_in, m] of the live deltas' subjects that are not in `but`; of each its latest."""
    found = {
        edit.subject: delta.keys[target.name][:, column]
        for delta in live
        if target.name in delta.keys
        for column, edit in enumerate(delta.edits)
        if edit.subject not in but
    }
    return torch.stack(list(found.values()), dim=1) if found else torch.zeros(target.d_in, 0)
