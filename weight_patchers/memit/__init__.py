"""MEMIT, mass-editing memory in a transformer."""

from weight_patchers.memit.compute import MEMIT
from weight_patchers.memit.hparams import MemitHparams

__all__ = ["MEMIT", "MemitHparams"]
