"""PMET, precise model editing in a transformer."""

from weight_patchers.pmet.compute import METHOD, compute, compute_each
from weight_patchers.pmet.hparams import PmetHparams

__all__ = ["METHOD", "PmetHparams", "compute", "compute_each"]
