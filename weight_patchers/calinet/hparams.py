"""Hyperparameters of CaliNET."""

from dataclasses import dataclass

from weight_patchers.values.hparams import ContextHparams
from weight_patchers.values.memory import MemoryHparams


@dataclass(frozen=True, kw_only=True)
class CalinetHparams(ContextHparams, MemoryHparams):
    """How the slots are trained; `compute` states how it is used.

    Raises InvalidHyperparameters when a value is out of its range.
    """

    slots: int = 256
    """How many inner units are added."""
    rate: float = 0.01
    """Adam's learning rate, where inputs have the root mean square 1."""
    steps: int = 60
    """Most passes over all edits."""
    batch: int = 16
    """How many edits a step is made for."""
    stop_loss: float = 0.02
    """Stop after a pass whose mean loss is below this."""
    keep: float = 1.0
    """Weight of what the slots write at other text; 0, as published: none."""

    def units(self, _edits: int) -> int:
        """The units that all edits share."""
        return self.slots

    def __post_init__(self) -> None:
        ContextHparams.__post_init__(self)
        MemoryHparams.__post_init__(self)
        self._require(1 <= self.slots <= 100000, "slots", "between 1 and 100000")
        self._require(self.rate > 0, "rate", "above 0")
        self._require(1 <= self.steps <= 10000, "steps", "between 1 and 10000")
        self._require(self.batch >= 1, "batch", "at least 1")
        self._require(self.stop_loss >= 0, "stop_loss", "at least 0")
        self._require(self.keep >= 0, "keep", "at least 0")
