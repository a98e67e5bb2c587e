"""EMMET: equality-constrained mass editing (Gupta et al. 2024, arXiv 2403.14236)."""

from collections.abc import Sequence

from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from weight_patchers.delta import Delta
from weight_patchers.edit import Edit
from weight_patchers.emmet.hparams import EmmetHparams
from weight_patchers.emmet.update import columns
from weight_patchers.families import Projection, layers
from weight_patchers.spreading import Spread, spread
from weight_patchers.statistics import Statistics
from weight_patchers.values.contexts import Context
from weight_patchers.values.optimisation import Site
from weight_patchers.values.workload import Progress

METHOD = "emmet"


def compute(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    edits: Sequence[Edit],
    hparams: EmmetHparams,
    statistics: Statistics,
    *,
    contexts: Sequence[Context] | None = None,
    live: Sequence[Delta] = (),
    controls: Sequence[str] | None = None,
    progress: Progress | None = None,
) -> Delta:
    """One delta for all edits; arguments and errors are as in `memit.compute`."""

    def site(target: Projection) -> Site:
        return Site(target.layer, (layers(model)[target.layer],))

    def solve(layer: int, keys: Tensor) -> tuple[Tensor, dict[str, float]]:
        factor = statistics.factor(layer)
        ridge = hparams.ridge if keys.shape[1] > 1 else 0.0
        found = columns(factor, keys, hparams.covariance_weight, ridge)
        return found.to(keys.device), factor.told()

    how = Spread(METHOD, site, solve)
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
