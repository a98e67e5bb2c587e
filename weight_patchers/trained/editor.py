"""What a trained editor is: a network from gradients to changes."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar, Self, cast

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from weight_patchers.model.batch import Batch
from weight_patchers.model.layers import projection
from weight_patchers.trained.changes import Factors
from weight_patchers.trained.gradients import Gradients
from weight_patchers.trained.hparams import TrainedHparams

Shapes = Mapping[int, tuple[int, int]]
"""(d_in, d_out) by layer."""


class TrainedEditor(nn.Module, ABC):
    """Turns the gradient of an edit's loss into the edit's change of the matrices.

    `hparams` are those that it was made with. With `conditioned` it also reads each edit's text
    "prediction >> alternative || input".
    """

    method: ClassVar[str]
    conditioned: ClassVar[bool] = False
    hparams_type: ClassVar[type[TrainedHparams]]
    hparams: TrainedHparams

    @abstractmethod
    def __init__(self, hparams: Any, shapes: Shapes, embeddings: Tensor) -> None:
        """As training begins, with the random state of torch.

        `embeddings` [vocabulary, d] are the base's, which the editor may read but does not own.
        """
        super().__init__()

    @classmethod
    def untrained(cls, hparams: Any, model: PreTrainedModel, seed: int) -> Self:
        """An editor for the model as training begins; the same for the same seed."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return cls(hparams, shapes_of(model, hparams), embeddings_of(model)).to(model.device)

    @abstractmethod
    def changes(self, gradients: Gradients, condition: Batch | None) -> dict[int, Factors]:
        """Each edit's change by layer, differentiable in the editor's parameters."""

    def observe(self, gradients: Gradients) -> None:
        """Learn what there is to learn from gradients alone; called in training only."""

    def parameter_groups(self, rate: float) -> list[dict[str, Any]]:
        """The parameters with their learning rates; `rate` is that of the networks."""
        return [{"params": list(self.parameters()), "lr": rate}]


def shapes_of(model: PreTrainedModel, hparams: TrainedHparams) -> dict[int, tuple[int, int]]:
    """(d_in, d_out) of the matrices that are written, by layer. Raises UnsupportedModel."""
    targets = {layer: projection(model, layer) for layer in hparams.layers}
    return {layer: (target.d_in, target.d_out) for layer, target in targets.items()}


def embeddings_of(model: PreTrainedModel) -> Tensor:
    """The token embeddings [vocabulary, d]."""
    return cast("Tensor", model.get_input_embeddings().weight).detach()
