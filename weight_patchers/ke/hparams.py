"""Hyperparameters of KnowledgeEditor."""

from dataclasses import dataclass

from weight_patchers.trained.hparams import TrainedHparams


@dataclass(frozen=True, kw_only=True)
class KeHparams(TrainedHparams):
    """What `weight_patchers.ke.editor` makes its networks from."""

    hidden: int = 256
    """Width of the LSTM in each direction."""
    condition: int = 1024
    """Width of what it says about the text."""
    inner: int = 128
    """Width of each matrix's network."""
    largest: float = 1.0
    """Largest factor of the update."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("hidden", "condition", "inner"):
            self._require(getattr(self, name) >= 1, name, "at least 1")
        self._require(self.largest > 0, "largest", "above 0")
