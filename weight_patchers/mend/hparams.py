"""Hyperparameters of MEND."""

from dataclasses import dataclass

from weight_patchers.trained.hparams import TrainedHparams


@dataclass(frozen=True, kw_only=True)
class MendHparams(TrainedHparams):
    """What `weight_patchers.mend.editor` makes its networks from."""

    rank: int = 1920
    """Width of each block's bottleneck, at most that of its input."""
    blocks: int = 2
    """Blocks of a network."""
    step: float = 1e-4
    """Step size of each matrix before training."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self._require(self.rank >= 1, "rank", "at least 1")
        self._require(1 <= self.blocks <= 8, "blocks", "between 1 and 8")
        self._require(self.step > 0, "step", "above 0")
