"""The part of a model that an edit of a single neuron changes."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Neuron:
    """An inner neuron of the MLP of a decoder layer, both counted from 0.

    ``attribution`` is what it added to the probability of the old answer, a mean over prompts.
    """

    layer: int
    index: int
    attribution: float
