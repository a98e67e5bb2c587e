"""AlphaEdit, null-space constrained editing."""

from weight_patchers.alphaedit.compute import METHOD, compute
from weight_patchers.alphaedit.hparams import AlphaEditHparams

__all__ = ["METHOD", "AlphaEditHparams", "compute"]
