"""KN, knowledge neurons."""

from weight_patchers.kn.compute import METHOD, compute, compute_each
from weight_patchers.kn.hparams import KnHparams

__all__ = ["METHOD", "KnHparams", "compute", "compute_each"]
