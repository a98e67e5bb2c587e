"""AlphaEdit, null-space constrained editing."""

from weight_patchers.alphaedit.compute import METHOD, compute, compute_each
from weight_patchers.alphaedit.hparams import AlphaEditHparams

__all__ = ["METHOD", "AlphaEditHparams", "compute", "compute_each"]
