"""MEMIT, mass-editing memory in a transformer."""

from weight_patchers.memit.compute import METHOD, compute
from weight_patchers.memit.hparams import MemitHparams

__all__ = ["METHOD", "MemitHparams", "compute"]
