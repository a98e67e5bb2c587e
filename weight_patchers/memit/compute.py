"""MEMIT: many edits in one update of several layers (Meng et al. 2023, arXiv 2210.07229)."""

from collections.abc import Sequence
from functools import partial

from torch import Tensor
from transformers import PreTrainedModel

from weight_patchers.delta import Delta
from weight_patchers.edit import Edit
from weight_patchers.memit.hparams import MemitHparams
from weight_patchers.memit.update import columns
from weight_patchers.model.layers import Projection, layers
from weight_patchers.spreading.compute import Spread, spread, spread_each
from weight_patchers.statistics import Statistics
from weight_patchers.values.optimisation import Site

METHOD = "memit"


def recipe(
    model: PreTrainedModel,
    edits: Sequence[Edit],
    hparams: MemitHparams,
    statistics: Statistics,
    live: Sequence[Delta],
) -> Spread:
    """Values are added to the output of the last of the layers."""

    def site(target: Projection) -> Site:
        return Site(target.layer, (layers(model)[target.layer],))

    def solve(layer: int, keys: Tensor) -> tuple[Tensor, dict[str, float]]:
        factor = statistics.factor(layer)
        return columns(factor, keys, hparams.covariance_weight).to(keys.device), factor.told()

    return Spread(METHOD, site, solve)


compute = partial(spread, recipe)
compute_each = partial(spread_each, recipe)
