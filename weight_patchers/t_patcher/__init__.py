"""T-Patcher: an extra inner unit for each wrong target token."""

from weight_patchers.t_patcher.compute import METHOD, compute
from weight_patchers.t_patcher.hparams import TPatcherHparams

__all__ = ["METHOD", "TPatcherHparams", "compute"]
