"""EMMET's hyperparameters."""

from dataclasses import dataclass

from weight_patchers.spreading.hparams import SpreadHparams


@dataclass(frozen=True, kw_only=True)
class EmmetHparams(SpreadHparams):
    """How EMMET edits one model. Raises InvalidHyperparameters when a value is out of range."""

    covariance_weight: float = 1.0
    """Weight of the key covariance C = E[k k^T]; without a ridge it makes no difference."""
    ridge: float = 0.1
    """Added to the diagonal of D where there are several edits; 0 keeps every key exactly."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self._require(self.covariance_weight > 0, "covariance_weight", "above 0")
        self._require(self.ridge >= 0, "ridge", "at least 0")
