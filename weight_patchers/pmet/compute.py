"""PMET: precise model editing in a transformer (Li et al. 2024, arXiv 2308.08742).

Values are added to the outputs of the attention and of the MLP at the last of the layers. Only
the MLP's is written: the attention's part is not forced into the MLP. A layer
takes 1 / sqrt(layers left) of the residual.
"""

import math

from weight_patchers.job import Job
from weight_patchers.memit.compute import solve
from weight_patchers.model.layers import Projection, attention_output
from weight_patchers.spreading.compute import SpreadMethod
from weight_patchers.values.optimisation import Site


def _attention_and_mlp(job: Job, target: Projection) -> Site:
    modules = (attention_output(job.model, target.layer), target.module)
    return Site(target.layer, modules, (job.hparams.attention_pace, 1.0))


def _square_root(left: int) -> float:
    return 1 / math.sqrt(left)


PMET = SpreadMethod("pmet", solve, _attention_and_mlp, _square_root)
