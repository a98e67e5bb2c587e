"""MEMIT's hyperparameters."""

from dataclasses import dataclass

from weight_patchers.spreading.hparams import SpreadHparams


@dataclass(frozen=True, kw_only=True)
class MemitHparams(SpreadHparams):
    """How MEMIT edits one model. Raises InvalidHyperparameters when a value is out of range."""

    covariance_weight: float = 15000.0
    """Weight of the key covariance C = E[k k^T] against the keys of the edits: λ in the paper,
    `mom2_update_weight` in the authors' code."""
    ridge: float = 0.0
    """Weight of the update's own size (ENCORE, arXiv 2502.01636); 0 as published."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self._require(self.covariance_weight > 0, "covariance_weight", "above 0")
        self._require(self.ridge >= 0, "ridge", "at least 0")
