"""PMET: precise model editing in a transformer (Li et al. 2024, arXiv 2308.08742)."""

import math
from collections.abc import Sequence

from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from weight_patchers.delta import Delta
from weight_patchers.edit import Edit
from weight_patchers.families import Projection, attention_output
from weight_patchers.memit.update import columns
from weight_patchers.pmet.hparams import PmetHparams
from weight_patchers.spreading import Spread, spread
from weight_patchers.statistics import Statistics
from weight_patchers.values.contexts import Context
from weight_patchers.values.optimisation import Site
from weight_patchers.values.workload import Progress

METHOD = "pmet"


def compute(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    edits: Sequence[Edit],
    hparams: PmetHparams,
    statistics: Statistics,
    *,
    contexts: Sequence[Context] | None = None,
    live: Sequence[Delta] = (),
    controls: Sequence[str] | None = None,
    progress: Progress | None = None,
) -> Delta:
    """One delta for all edits; arguments and errors are as in `memit.compute`.

    Values are added to the outputs of the attention and of the MLP at the last of the layers, and
    only the MLP's is written: what the attention would have to add is not forced into the MLP.
    A layer takes 1 / sqrt(layers left) of what is missing.
    """

    def site(target: Projection) -> Site:
        modules = (attention_output(model, target.layer), target.module)
        return Site(target.layer, modules, (hparams.attention_pace, 1.0))

    def solve(layer: int, keys: Tensor) -> tuple[Tensor, dict[str, float]]:
        factor = statistics.factor(layer)
        return columns(factor, keys, hparams.covariance_weight).to(keys.device), factor.told()

    how = Spread(METHOD, site, solve, share=lambda left: 1 / math.sqrt(left))
    return spread(
        model,
        tokenizer,
        edits,
        hparams,
        statistics.fingerprint,
        how,
        contexts=contexts,
        controls=controls,
        progress=progress,
    )
