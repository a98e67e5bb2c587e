"""Hyperparameters of fine-tuning."""

from dataclasses import dataclass

from weight_patchers.errors import InvalidHyperparameters


@dataclass(frozen=True, kw_only=True)
class FineTuningHparams:
    """How one matrix is fine-tuned; `compute` states how they are used.

    Raises InvalidHyperparameters when a value is out of its range.
    """

    layer: int
    """Decoder layer whose MLP output projection is trained, counted from 0."""
    rate: float = 5e-4
    """Adam's learning rate."""
    steps: int = 25
    """Maximum number of steps."""
    stop_loss: float = 1e-2
    """Stop once the mean loss is below this."""
    norm_bound: float | None = None
    """Largest change of any weight; null for no bound."""
    weight_decay: float = 0.0
    """Weight of the mean square of the change."""
    chat: bool | None = None
    """Also train the prompt as a user's message in the tokenizer's chat template; null: where it
    has one."""

    def __post_init__(self) -> None:
        self._require(self.layer >= 0, "layer", "at least 0")
        self._require(self.rate > 0, "rate", "above 0")
        self._require(1 <= self.steps <= 10000, "steps", "between 1 and 10000")
        self._require(self.stop_loss >= 0, "stop_loss", "at least 0")
        self._require(
            self.norm_bound is None or self.norm_bound > 0, "norm_bound", "above 0, or null"
        )
        self._require(self.weight_decay >= 0, "weight_decay", "at least 0")

    @property
    def layers(self) -> tuple[int, ...]:
        """The layers that are written."""
        return (self.layer,)

    @property
    def covariance(self) -> bool:
        """Whether the key statistics of the layers are needed."""
        return False

    def _require(self, holds: bool, name: str, requirement: str) -> None:
        if not holds:
            raise InvalidHyperparameters(
                f"{name} is {getattr(self, name)!r}: it must be {requirement}"
            )
