"""MEMIT, mass-editing memory in a transformer."""

from weight_patchers.memit.compute import METHOD, compute, compute_each
from weight_patchers.memit.hparams import MemitHparams

__all__ = ["METHOD", "MemitHparams", "compute", "compute_each"]
