"""Hyperparameters of the methods that spread edits over several layers."""

from dataclasses import dataclass

from weight_patchers.values.hparams import ValueHparams

KEYS = ("both", "averaged")


@dataclass(frozen=True, kw_only=True)
class SpreadHparams(ValueHparams):
    """`weight_patchers.spreading.compute` states how they are used.

    Raises InvalidHyperparameters when a value is out of its range.
    """

    layers: tuple[int, ...]
    """Decoder layers whose MLP output projections are written, ascending, counted from 0. Values
    are optimised at the last of them."""
    share_subjects: bool = True
    """Compute one value for all edits of a subject in the batch: their keys are equal if the
    subject comes first, and no update could give each its own value. As published: false."""
    keys: str = "both"
    """`both`: the bare prompt and the mean of the prompts in a context have a key each, and both
    get the value; `averaged`: one key for all, as published."""
    bare_share: float = 0.5
    """Share of the bare prompt in an averaged key; the prompts in a context have the rest."""

    def __post_init__(self) -> None:
        super().__post_init__()
        ascending = list(self.layers) == sorted(set(self.layers))
        self._require(bool(self.layers) and ascending, "layers", "different layers, ascending")
        self._require(all(layer >= 0 for layer in self.layers), "layers", "at least 0 each")
        self._require(self.keys in KEYS, "keys", f"one of {KEYS}")
        self._require(0 < self.bare_share <= 1, "bare_share", "in (0, 1]")

    @property
    def covariance(self) -> bool:
        """Whether the key statistics of the layers are needed."""
        return True
