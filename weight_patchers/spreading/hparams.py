"""Hyperparameters of the methods that spread edits over several layers."""

from dataclasses import dataclass, fields

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
    live_subjects: bool = False
    """Seek a value that also tells the live edits of the same subject, which it replaces: what
    `share_subjects` is in a batch, for edits that come one after another. It needs
    `share_subjects`."""
    base_values: bool = False
    """Seek values in the base, without the live edits, so that the drift that these cause does
    not feed on itself. As published: false."""
    value_length: float | None = None
    """The length that every value gets (NAS, arXiv 2602.02543): the mean length of values in the
    base, which each delta reports as `value_length`; null: as found."""
    bare_share: float = 0.5
    """Share of the bare prompt in an averaged key; the prompts in a context have the rest."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self._require_layers(self.layers)
        self._require(self.keys in KEYS, "keys", f"one of {KEYS}")
        self._require(
            self.value_length is None or self.value_length > 0, "value_length", "above 0, or null"
        )
        self._require(0 < self.bare_share <= 1, "bare_share", "in (0, 1]")

    @property
    def covariance(self) -> bool:
        """Whether the key statistics of the layers are needed."""
        return True

    @property
    def value_conditions(self) -> tuple[object, ...]:
        """What a value depends on beside the model, the contexts and the layers.

        Methods for which it is equal find the same values.
        """
        return tuple(getattr(self, field.name) for field in fields(ValueHparams))
