"""AlphaEdit, null-space constrained editing."""

from weight_patchers.alphaedit.compute import ALPHAEDIT
from weight_patchers.alphaedit.hparams import AlphaEditHparams

__all__ = ["ALPHAEDIT", "AlphaEditHparams"]
