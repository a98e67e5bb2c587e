"""EMMET, equality-constrained mass editing in a transformer."""

from weight_patchers.emmet.compute import METHOD, compute, compute_each
from weight_patchers.emmet.hparams import EmmetHparams

__all__ = ["METHOD", "EmmetHparams", "compute", "compute_each"]
