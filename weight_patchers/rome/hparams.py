"""ROME's hyperparameters."""

from dataclasses import dataclass

from weight_patchers.checked_values import OneLayer
from weight_patchers.values.hparams import ValueHparams

KEYS = ("both", "averaged", "mixed", "prompt")


@dataclass(frozen=True, kw_only=True)
class RomeHparams(ValueHparams, OneLayer):
    """How ROME edits one model. Raises InvalidHyperparameters when a value is out of its range."""

    layer: int
    """Decoder layer whose MLP output projection is written, counted from 0."""
    covariance: bool = True
    """Weigh by the key statistics; without, C is the identity."""
    keys: str = "both"
    """Keys that get the value: `both` the bare prompt's and the mean of those in a context;
    `averaged` over the contexts for both (r-ROME), `prompt`
    the bare prompt's for both (p-ROME), or `mixed` as first published."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self._require_layer()
        self._require(self.keys in KEYS, "keys", f"one of {KEYS}")
