"""Fine-tuning of one matrix: FT-L with a bound on every weight's move, FT-M without."""

from weight_patchers.fine_tuning.compute import compute
from weight_patchers.fine_tuning.hparams import FineTuningHparams

__all__ = ["FineTuningHparams", "compute"]
