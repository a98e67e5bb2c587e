"""EMMET: equality-constrained mass editing (Gupta et al. 2024, arXiv 2403.14236)."""

from collections.abc import Sequence
from functools import partial

from torch import Tensor
from transformers import PreTrainedModel

from weight_patchers.delta import Delta
from weight_patchers.edit import Edit
from weight_patchers.emmet.hparams import EmmetHparams
from weight_patchers.emmet.update import columns
from weight_patchers.model.layers import Projection, layers
from weight_patchers.spreading.compute import Spread, spread, spread_each
from weight_patchers.statistics import Statistics
from weight_patchers.values.optimisation import Site

METHOD = "emmet"


def recipe(
    model: PreTrainedModel,
    edits: Sequence[Edit],
    hparams: EmmetHparams,
    statistics: Statistics,
    live: Sequence[Delta],
) -> Spread:
    """As MEMIT's, with the values of the edits' keys as constraints."""

    def site(target: Projection) -> Site:
        return Site(target.layer, (layers(model)[target.layer],))

    def solve(layer: int, keys: Tensor) -> tuple[Tensor, dict[str, float]]:
        factor = statistics.factor(layer)
        ridge = hparams.ridge if keys.shape[1] > 1 else 0.0
        found = columns(factor, keys, hparams.covariance_weight, ridge)
        return found.to(keys.device), factor.told()

    return Spread(METHOD, site, solve)


compute = partial(spread, recipe)
compute_each = partial(spread_each, recipe)
