"""Fine-tuning: FT-L and FT-M of one matrix, FT-BF of all live edits together."""

from weight_patchers.fine_tuning.compute import compute
from weight_patchers.fine_tuning.hparams import BreadthFirstHparams, FineTuningHparams

__all__ = ["BreadthFirstHparams", "FineTuningHparams", "compute"]
