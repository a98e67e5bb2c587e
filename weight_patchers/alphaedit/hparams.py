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
    covariance_weight: float = 0.0
    """Weight of the key covariance inside the null space, as MEMIT's; 0 as published. With
    `null_share` 1 the solution is MEMIT's, sparing the keys of live edits."""
    past_weight: float = 0.0
    """Weight of the live edits' keys in the moment that the null space is made from, renewed with
    every edit (BetaEdit); 0 as published: the space is that of the base."""

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
        self._require(self.covariance_weight >= 0, "covariance_weight", "at least 0")
        self._require(self.past_weight >= 0, "past_weight", "at least 0")
