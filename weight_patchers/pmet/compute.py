"""PMET: precise model editing in a transformer (Li et al. 2024, arXiv 2308.08742)."""

import math
from collections.abc import Sequence
from functools import partial

from torch import Tensor
from transformers import PreTrainedModel

from weight_patchers.delta import Delta
from weight_patchers.edit import Edit
from weight_patchers.memit.update import columns
from weight_patchers.model.layers import Projection, attention_output
from weight_patchers.pmet.hparams import PmetHparams
from weight_patchers.spreading.compute import Spread, spread, spread_each
from weight_patchers.statistics import Statistics
from weight_patchers.values.optimisation import Site

METHOD = "pmet"


def recipe(
    model: PreTrainedModel,
    edits: Sequence[Edit],
    hparams: PmetHparams,
    statistics: Statistics,
    live: Sequence[Delta],
) -> Spread:
    """Values are added to the outputs of the attention and of the MLP at the last of the layers.

    Only the MLP's is written: what the attention would have to add is not forced into the MLP. A
    layer takes 1 / sqrt(layers left) of what is missing.
    """

    def site(target: Projection) -> Site:
        modules = (attention_output(model, target.layer), target.module)
        return Site(target.layer, modules, (hparams.attention_pace, 1.0))

    def solve(layer: int, keys: Tensor) -> tuple[Tensor, dict[str, float]]:
        factor = statistics.factor(layer)
        return columns(factor, keys, hparams.covariance_weight).to(keys.device), factor.told()

    return Spread(METHOD, site, solve, share=lambda left: 1 / math.sqrt(left))


compute = partial(spread, recipe)
compute_each = partial(spread_each, recipe)
