"""CaliNET: extra inner units that are trained on all facts together."""

from weight_patchers.calinet.compute import METHOD, compute
from weight_patchers.calinet.hparams import CalinetHparams

__all__ = ["METHOD", "CalinetHparams", "compute"]
