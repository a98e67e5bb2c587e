"""What an MLP reads in other text: inputs that extra units of it should not answer to."""

from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from weight_patchers.checked_values import OneLayer
from weight_patchers.model import hooks
from weight_patchers.model.batch import pad
from weight_patchers.model.mlp import mlp
from weight_patchers.values.contexts import continuations, starts

_AT_ONCE = 64
"""So many texts begin with the tokens that are the most probable ones; others begin so again."""


@dataclass(frozen=True, kw_only=True)
class MemoryHparams(OneLayer):
    """Which MLP gets the units, and the texts that they should leave alone.

    Raises InvalidHyperparameters when a value is out of its range.
    """

    layer: int
    """Decoder layer whose MLP gets the units, counted from 0."""
    memory_texts: int = 64
    """How many texts the model samples as other text."""
    memory_length: int = 32
    """Their length, in tokens."""
    seed: int = 0
    """Seed of whatever is sampled."""

    def __post_init__(self) -> None:
        self._require_layer()
        self._require(1 <= self.memory_texts <= 10000, "memory_texts", "between 1 and 10000")
        self._require(2 <= self.memory_length <= 500, "memory_length", "between 2 and 500")

    @property
    def covariance(self) -> bool:
        """Whether the key statistics of the layers are needed."""
        return False


def sample_memory(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, hp: MemoryHparams
) -> Tensor:
    """Inputs of the MLP [tokens, d], float32 on the model's device, in texts the model samples.

    Every token behind a text's first counts. No text of the user's is needed. Deterministic for a
    model, its device and a seed; the model is left unchanged.
    """
    first = starts(tokenizer)
    rounds = -(-hp.memory_texts // _AT_ONCE)
    count = max(1, hp.memory_texts // rounds // len(first))
    inner = {0: mlp(model, hp.layer).first}
    found = []
    for number in range(rounds):
        seed = hp.seed + number
        sampled = continuations(model, first, count=count, length=hp.memory_length, seed=seed)
        batch = pad([row for group in sampled for row in group], model.device)
        with hooks.frozen(model), torch.no_grad(), hooks.inputs(inner, len(batch.ids)) as captured:
            model(**batch.arguments())
        found.append(captured[0][:, 1:][batch.mask[:, 1:].bool()].float())
    return torch.cat(found)
