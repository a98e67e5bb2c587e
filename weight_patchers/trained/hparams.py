"""Hyperparameters that all trained editors have."""

from dataclasses import asdict, dataclass
from typing import Any, ClassVar

from weight_patchers.checked_values import CheckedValues
from weight_patchers.errors import UntrainedEditor
from weight_patchers.values.hparams import ENDS


@dataclass(frozen=True, kw_only=True)
class TrainedHparams(CheckedValues):
    """Raises InvalidHyperparameters when a value is out of its range."""

    layers: tuple[int, ...]
    """Decoder layers whose MLP output projections are written, ascending, counted from 0."""
    scale: float = 1.0
    """Factor of the change that the editor makes."""
    steps: int = 1
    """Most times that an edit is made, each on the model with the change so far: until the target
    is the answer (De Cao et al. 2021)."""
    chat: bool | None = None
    """Also read the gradient of the prompt as a user's message in the tokenizer's chat template;
    null: where it has one."""
    end: str = "none"
    """What follows a target in the loss whose gradient is read. `turn`: in the chat template a full
    stop and the end of the turn; `stop`: that, and elsewhere a full stop; `none`: nothing."""

    free: ClassVar[frozenset[str]] = frozenset({"scale", "steps", "chat", "end"})
    """What may differ between training and editing."""

    def __post_init__(self) -> None:
        self._require_layers(self.layers)
        self._require(self.scale > 0, "scale", "above 0")
        self._require(1 <= self.steps <= 20, "steps", "between 1 and 20")
        self._require(self.end in ENDS, "end", f"one of {ENDS}")

    @property
    def covariance(self) -> bool:
        """Whether the key statistics of the layers are needed."""
        return False

    @property
    def network(self) -> dict[str, Any]:
        """The values that the network is made from."""
        return {name: value for name, value in asdict(self).items() if name not in self.free}

    def require_trained(self, trained: "TrainedHparams", command: str) -> None:
        """Raise UntrainedEditor unless `trained`, an editor's hyperparameters, can serve these."""
        wanted, have = self.network, trained.network
        differing = [name for name in wanted if wanted[name] != have.get(name)]
        if differing:
            name = differing[0]
            raise UntrainedEditor(
                f"the editor was trained with {name} {have.get(name)!r}, not {wanted[name]!r}: "
                f"set it so, or train another with {command}"
            )
