"""EMMET, equality-constrained mass editing in a transformer."""

from weight_patchers.emmet.compute import EMMET
from weight_patchers.emmet.hparams import EmmetHparams

__all__ = ["EMMET", "EmmetHparams"]
