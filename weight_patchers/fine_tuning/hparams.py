"""Hyperparameters of fine-tuning."""

from dataclasses import dataclass

from weight_patchers.checked_values import CheckedValues, OneLayer
from weight_patchers.values.hparams import ENDS


@dataclass(frozen=True, kw_only=True)
class TrainingHparams(CheckedValues):
    """What all fine-tuning has; `compute` and `breadth_first` state how it is used.

    Raises InvalidHyperparameters when a value is out of its range.
    """

    stop_loss: float = 1e-2
    """Stop once the mean loss is below this."""
    chat: bool | None = None
    """Also train the prompt as a user's message in the tokenizer's chat template; null: where it
    has one."""
    end: str = "none"
    """What is trained behind a target. `turn`: in the chat template a full stop and the end of the
    turn; `stop`: that, and elsewhere a full stop; `none`: nothing."""

    def __post_init__(self) -> None:
        self._require(self.stop_loss >= 0, "stop_loss", "at least 0")
        self._require(self.end in ENDS, "end", f"one of {ENDS}")


@dataclass(frozen=True, kw_only=True)
class FineTuningHparams(TrainingHparams, OneLayer):
    """How one matrix is fine-tuned."""

    layer: int
    """Decoder layer whose MLP output projection is trained, counted from 0."""
    rate: float = 5e-4
    """Adam's learning rate."""
    steps: int = 25
    """Maximum number of steps."""
    norm_bound: float | None = None
    """Largest change of any weight; null for no bound."""
    weight_decay: float = 0.0
    """Weight of the mean square of the change."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self._require_layer()
        self._require(self.rate > 0, "rate", "above 0")
        self._require(1 <= self.steps <= 10000, "steps", "between 1 and 10000")
        self._require(
            self.norm_bound is None or self.norm_bound > 0, "norm_bound", "above 0, or null"
        )
        self._require(self.weight_decay >= 0, "weight_decay", "at least 0")

    @property
    def covariance(self) -> bool:
        """Whether the key statistics of the layers are needed."""
        return False


@dataclass(frozen=True, kw_only=True)
class BreadthFirstHparams(TrainingHparams):
    """How all live edits are fine-tuned together, in one or several matrices."""

    layers: tuple[int, ...]
    """Decoder layers whose MLP output projections are trained, ascending, counted from 0."""
    rate: float = 0.1
    """Adam's learning rate, relative to the root mean square of a matrix's entries."""
    steps: int = 60
    """Most passes over all edits."""
    batch: int = 16
    """How many edits a step is made for."""
    spared: float | None = 0.8
    """Share of the energy of other texts' keys whose directions the change leaves alone; null: it
    leaves none, and needs no statistics."""
    seed: int = 0
    """Seed of the order of the edits."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self._require_layers(self.layers)
        self._require(self.rate > 0, "rate", "above 0")
        self._require(1 <= self.steps <= 10000, "steps", "between 1 and 10000")
        self._require(self.batch >= 1, "batch", "at least 1")
        self._require(
            self.spared is None or 0 < self.spared < 1, "spared", "between 0 and 1, or null"
        )

    @property
    def covariance(self) -> bool:
        """Whether the key statistics of the layers are needed."""
        return self.spared is not None
