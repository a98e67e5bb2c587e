"""AlphaEdit's hyperparameters."""

from dataclasses import dataclass

from weight_patchers.spreading.hparams import SpreadHparams


@dataclass(frozen=True, kw_only=True)
class AlphaEditHparams(SpreadHparams):
    """How AlphaEdit edits one model. Raises InvalidHyperparameters when a value is out of range.

    Exactly one of `null_threshold` and `null_share` is given.
    """

    null_threshold: float | None = None
    """Directions with a smaller second moment than this make up the null space; as published;
    it depends on the scale of the keys."""
    null_share: float | None = None
    """Share of the directions, those of the smallest second moments, that make up the space."""
    ridge: float = 10.0
    """Weight of the update's own size, L2 in the authors' code."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self._require(
            (self.null_threshold is None) != (self.null_share is None),
            "null_share",
            "given where null_threshold is not, and only there",
        )
        self._require(
            self.null_threshold is None or self.null_threshold > 0, "null_threshold", "above 0"
        )
        self._require(
            self.null_share is None or 0 < self.null_share <= 1, "null_share", "in (0, 1]"
        )
        self._require(self.ridge > 0, "ridge", "above 0")
