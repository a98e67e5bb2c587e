"""PMET, precise model editing in a transformer."""

from weight_patchers.pmet.compute import METHOD, compute
from weight_patchers.pmet.hparams import PmetHparams

__all__ = ["METHOD", "PmetHparams", "compute"]
