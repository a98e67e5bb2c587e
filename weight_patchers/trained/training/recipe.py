"""How an editor is trained."""

from dataclasses import dataclass

from weight_patchers.checked_values import CheckedValues

OPTIMIZERS = ("adam", "rmsprop")
LOSSES = ("weighted", "constrained")


@dataclass(frozen=True, kw_only=True)
class Recipe(CheckedValues):
    """The values are in the method's YAML files, under `training`.

    Raises InvalidHyperparameters when a value is out of its range.
    """

    steps: int
    """Number of steps."""
    batch: int
    """Edits in a step, each on a copy of the base of its own."""
    together: int = 1
    """Edits whose changes are summed when their questions are asked; divides `batch`."""
    optimizer: str = "adam"
    """`adam`, or `rmsprop`, centred."""
    rate: float = 1e-6
    """Learning rate of the networks."""
    warm_up: int = 0
    """Steps in which the learning rate rises to `rate`."""
    decay: float = 0.0
    """Share of the steps, at the end, in which it falls to zero."""
    clip: float | None = 100.0
    """Largest norm of the parameters' gradient; null for no bound."""
    loss: str = "weighted"
    """`weighted`: edit_weight * NLL + KL; `constrained`: NLL + multiplier * (KL - margin)."""
    edit_weight: float = 0.1
    """Weight of the target's NLL."""
    smoothing: float = 0.0
    """Label smoothing of the target's NLL."""
    margin: float = 1e-3
    """Largest KL, in nats, before it is made smaller."""
    least_margin: float = 1e-5
    """Margin at the end."""
    multiplier_rate: float = 0.1
    """Learning rate of the multiplier."""
    rephrasings: int = 1
    """Rephrasings asked of an edit in a step, beside its own prompt."""
    kept: int = 1
    """Other questions asked in a step."""
    end: str = ""
    """Text that follows every answer."""
    validate_every: int = 1000
    """Steps between two validations."""
    validation_edits: int = 100
    """Edits in a validation."""
    patience: int | None = None
    """Steps without a better validation after which training ends; null: never."""

    def __post_init__(self) -> None:
        for name in ("steps", "batch", "rephrasings", "kept", "validate_every", "validation_edits"):
            self._require(getattr(self, name) >= 1, name, "at least 1")
        self._require(
            self.together >= 1 and self.batch % self.together == 0, "together", "a divisor of batch"
        )
        self._require(self.optimizer in OPTIMIZERS, "optimizer", f"one of {OPTIMIZERS}")
        self._require(self.loss in LOSSES, "loss", f"one of {LOSSES}")
        self._require(self.rate > 0, "rate", "above 0")
        self._require(self.warm_up >= 0, "warm_up", "at least 0")
        self._require(0 <= self.decay <= 1, "decay", "between 0 and 1")
        self._require(self.clip is None or self.clip > 0, "clip", "above 0, or null")
        self._require(self.edit_weight > 0, "edit_weight", "above 0")
        self._require(0 <= self.smoothing < 1, "smoothing", "at least 0 and below 1")
        self._require(0 < self.least_margin <= self.margin, "least_margin", "in (0, margin]")
        self._require(self.multiplier_rate > 0, "multiplier_rate", "above 0")
        self._require(
            self.patience is None or self.patience >= 1, "patience", "at least 1, or null"
        )

    def factor(self, step: int) -> float:
        """The learning rate's factor in this step, counted from 0."""
        rising = min(1.0, (step + 1) / self.warm_up) if self.warm_up else 1.0
        falling = (self.steps - step) / (self.decay * self.steps) if self.decay else 1.0
        return min(rising, falling, 1.0)
