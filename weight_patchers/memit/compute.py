"""MEMIT: many edits in one update of several layers (Meng et al. 2023, arXiv 2210.07229)."""

from collections.abc import Sequence

from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from weight_patchers.delta import Delta
from weight_patchers.edit import Edit
from weight_patchers.families import Projection, layers
from weight_patchers.memit.hparams import MemitHparams
from weight_patchers.memit.update import columns
from weight_patchers.spreading import Spread, spread
from weight_patchers.statistics import Statistics
from weight_patchers.values.contexts import Context
from weight_patchers.values.optimisation import Site
from weight_patchers.values.workload import Progress

METHOD = "memit"


def compute(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    edits: Sequence[Edit],
    hparams: MemitHparams,
    statistics: Statistics,
    *,
    contexts: Sequence[Context] | None = None,
    live: Sequence[Delta] = (),
    controls: Sequence[str] | None = None,
    progress: Progress | None = None,
) -> Delta:
    """One delta for all edits; arguments and errors are as in `rome.compute`.

    Values are added to the output of the last of the layers. Raises ConflictingEdits when two
    edits change the same fact.
    """

    def site(target: Projection) -> Site:
        return Site(target.layer, (layers(model)[target.layer],))

    def solve(layer: int, keys: Tensor) -> tuple[Tensor, dict[str, float]]:
        factor = statistics.factor(layer)
        return columns(factor, keys, hparams.covariance_weight).to(keys.device), factor.told()

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
