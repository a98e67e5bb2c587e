"""Hyperparameters of T-Patcher."""

from dataclasses import dataclass

from weight_patchers.values.hparams import ENDS
from weight_patchers.values.memory import MemoryHparams


@dataclass(frozen=True, kw_only=True)
class TPatcherHparams(MemoryHparams):
    """How the units of an edit are trained; `losses` and `compute` state how it is used.

    Raises InvalidHyperparameters when a value is out of its range.
    """

    most_units: int = 5
    """The most units of an edit: one for each of its first so many wrong target tokens."""
    gain: float = 10.0
    """What the trained output is multiplied with at the start, relative to the residual there."""
    spread: float = 1.0
    """Standard deviation of the trained output's coordinates at the start."""
    activation_weight: float = 1.0
    """Weight of the activation loss."""
    activation_top: int = 5
    """It is the mean over so many units, those that answer least to their own token."""
    memory_weight: float = 10.0
    """Weight of the memory loss."""
    memory_top: int = 1000
    """It is the mean over so many inputs from other text, those that a unit answers most to."""
    margin: float = 3.0
    """How far a unit should answer less to other text than to its own token, and than 0."""
    smoothing: float = 0.1
    """Label smoothing of the target's cross-entropy."""
    rate: float = 0.01
    """Adam's learning rate, where inputs have the root mean square 1."""
    weight_decay: float = 0.01
    """Adam's weight decay."""
    clip: float = 5.0
    """Largest norm of a gradient."""
    steps: int = 2000
    """Most steps."""
    first_check: int = 100
    """Steps until it is looked whether training can end."""
    check: int = 25
    """Steps between two such looks."""
    fall: float = 0.01
    """A memory loss that falls by less than this share between two looks has stopped falling."""
    chat: bool | None = None
    """Also train the prompt as a user's message in the tokenizer's chat template; null: where it
    has one."""
    end: str = "none"
    """What is trained behind a target, as for fine-tuning."""

    def units(self, edits: int) -> int:
        """The most units that so many edits get."""
        return edits * self.most_units

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("most_units", "activation_top", "memory_top", "first_check", "check"):
            self._require(getattr(self, name) >= 1, name, "at least 1")
        for name in ("gain", "rate", "clip"):
            self._require(getattr(self, name) > 0, name, "above 0")
        for name in ("spread", "activation_weight", "memory_weight", "margin", "weight_decay"):
            self._require(getattr(self, name) >= 0, name, "at least 0")
        for name in ("smoothing", "fall"):
            self._require(0 <= getattr(self, name) < 1, name, "at least 0 and below 1")
        self._require(1 <= self.steps <= 10000, "steps", "between 1 and 10000")
        self._require(self.end in ENDS, "end", f"one of {ENDS}")
