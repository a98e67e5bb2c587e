"""EMMET, equality-constrained mass editing in a transformer."""

from weight_patchers.emmet.compute import METHOD, compute
from weight_patchers.emmet.hparams import EmmetHparams

__all__ = ["METHOD", "EmmetHparams", "compute"]
