"""Exports deltas for other programs: as a merged checkpoint or a PEFT adapter."""

from weight_patchers.export.adapter import Adapter, to_peft
from weight_patchers.export.merged import to_checkpoint

__all__ = ["Adapter", "to_checkpoint", "to_peft"]
