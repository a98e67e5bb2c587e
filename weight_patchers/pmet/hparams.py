"""PMET's hyperparameters."""

from dataclasses import dataclass

from weight_patchers.memit.hparams import MemitHparams


@dataclass(frozen=True, kw_only=True)
class PmetHparams(MemitHparams):
    """How PMET edits one model. Raises InvalidHyperparameters when a value is out of range."""

    attention_pace: float = 1.0
    """Length of the attention's steps, relative to the MLP's. The attention's part is not
    written, so a pace below 1 moves more of the value into the MLP; as published: 1."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self._require(self.attention_pace > 0, "attention_pace", "above 0")

    @property
    def value_conditions(self) -> tuple[object, ...]:
        return (*super().value_conditions, self.attention_pace)
