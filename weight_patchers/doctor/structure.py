"""The parts of a model that matter for editing."""

import math
from dataclasses import dataclass

import torch
from transformers import AutoModelForCausalLM, PretrainedConfig, PreTrainedModel

from weight_patchers.errors import UnsupportedModel
from weight_patchers.model.layers import depth, projection, require_dense, width


@dataclass(frozen=True)
class Structure:
    """A model's structure. `matrix` is the name of layer 0's edited weight; `dtype` is
    the checkpoint's, `loaded` the one the model was examined in."""

    architecture: str
    layers: int
    width: int
    key_width: int
    vocabulary: int
    parameters: int
    dtype: str
    loaded: str
    tied: bool
    matrix: str
    transposed: bool


def require_editable(config: PretrainedConfig) -> None:
    """Raise UnsupportedModel for a model that cannot be edited, before its weights are read."""
    try:
        with torch.device("meta"):
            model = AutoModelForCausalLM.from_config(config)
    except ValueError as error:
        reason = str(error).splitlines()[0]
        raise UnsupportedModel(f"it is no causal language model: {reason}") from error
    require_dense(model)


def describe(model: PreTrainedModel, dtype: str | None = None) -> Structure:
    """The structure of a loaded model; `dtype` is the checkpoint's, if it was loaded in another.

    Raises UnsupportedModel, with the reason, when it cannot be edited.
    """
    require_dense(model)
    config = model.config.get_text_config()
    targets = [projection(model, layer) for layer in range(depth(model))]
    head, embedding = model.get_output_embeddings(), model.get_input_embeddings()
    loaded = str(model.dtype).removeprefix("torch.")
    return Structure(
        architecture=type(model).__name__,
        layers=len(targets),
        width=width(model),
        key_width=max(target.d_in for target in targets),
        vocabulary=int(config.vocab_size),
        parameters=sum(math.prod(p.shape) for p in model.parameters()),
        dtype=dtype or loaded,
        loaded=loaded,
        tied=head is not None and head.weight is embedding.weight,
        matrix=targets[0].name,
        transposed=targets[0].transposed,
    )
