"""PMET, precise model editing in a transformer."""

from weight_patchers.pmet.compute import PMET
from weight_patchers.pmet.hparams import PmetHparams

__all__ = ["PMET", "PmetHparams"]
