"""Hyperparameters that check themselves."""

from collections.abc import Sequence

from weight_patchers.errors import InvalidHyperparameters


class CheckedValues:
    """Base of dataclasses whose values must be in a range."""

    def _require(self, holds: bool, name: str, requirement: str) -> None:
        """Raise InvalidHyperparameters, naming the field, unless what is required holds."""
        if not holds:
            raise InvalidHyperparameters(
                f"{name} is {getattr(self, name)!r}: it must be {requirement}"
            )

    def _require_layers(self, layers: Sequence[int]) -> None:
        """Require of field `layers` that it has different layers in order."""
        ascending = list(layers) == sorted(set(layers))
        self._require(bool(layers) and ascending, "layers", "different layers, ascending")
        self._require(all(layer >= 0 for layer in layers), "layers", "at least 0 each")


class OneLayer(CheckedValues):
    """Base of those with a field `layer` instead of several `layers`."""

    layer: int

    @property
    def layers(self) -> tuple[int, ...]:
        """The layers that are written."""
        return (self.layer,)

    def _require_layer(self) -> None:
        self._require(self.layer >= 0, "layer", "at least 0")
