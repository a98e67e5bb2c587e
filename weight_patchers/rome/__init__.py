"""ROME, rank-one model editing."""

from weight_patchers.rome.compute import METHOD, compute, compute_each
from weight_patchers.rome.hparams import RomeHparams

__all__ = ["METHOD", "RomeHparams", "compute", "compute_each"]
