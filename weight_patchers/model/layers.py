"""Finds the matrix in a decoder that editing methods write to.

The matrix is the MLP's output projection: its input is the key, its output the value that is
added to the residual stream. It is found from the model's own modules, not from its name:

- the decoder layers are the ModuleList with as many entries as the config has hidden layers,
  each with an attention in it, inside what Transformers calls the model's decoder;
- in a layer, it is the last linear map outside the attention whose output is as wide as the
  residual stream (`down_proj`, `fc2`, `fc_out`, `dense_4h_to_h`, `c_proj`, …).
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeGuard, cast

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from weight_patchers.errors import UnsupportedModel

_PLAIN = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
_QUANTISED = "the weights are quantised: edit the model in its original dtype"
_ATTENTION_INPUT = re.compile("w?[qkv]|c_attn|gate", re.IGNORECASE)


@dataclass(frozen=True, eq=False)
class Projection:
    """The MLP output projection of one layer.

    `name` is its weight's name in the Hugging Face model; `transposed` says that the weight is
    stored as [d_in, d_out] (Conv1D) and not as [d_out, d_in] (nn.Linear).
    """

    layer: int
    name: str
    module: nn.Module
    transposed: bool

    @property
    def weight(self) -> Tensor:
        """The parameter itself, in its own orientation and dtype."""
        return cast("Tensor", self.module.weight)

    @property
    def d_in(self) -> int:
        return self.weight.shape[0 if self.transposed else 1]

    @property
    def d_out(self) -> int:
        return self.weight.shape[1 if self.transposed else 0]

    def matrix(self) -> Tensor:
        """A copy of W in float32, [d_out, d_in]."""
        weight = self.weight.detach()
        return (weight.T if self.transposed else weight).float().clone()

    def write(self, matrix: Tensor) -> None:
        """Set W to a float32 [d_out, d_in] matrix, rounding once to the weight's own dtype."""
        with torch.no_grad():
            self.weight.copy_(matrix.T if self.transposed else matrix)


def depth(model: PreTrainedModel) -> int:
    """How many decoder layers the model has."""
    return int(model.config.get_text_config().num_hidden_layers)


def width(model: PreTrainedModel) -> int:
    """The width of the residual stream."""
    return int(model.config.get_text_config().hidden_size)


def layers(model: PreTrainedModel) -> nn.ModuleList:
    """The decoder layers, in order; each returns the residual stream, alone or first in a tuple.

    Raises UnsupportedModel for a model that is not a decoder-only language model.
    """
    return _stack(model)[1]


def projection(model: PreTrainedModel, layer: int, *, on_meta: bool = False) -> Projection:
    """The MLP output projection of decoder layer `layer`, counted from 0.

    `on_meta`: the model may be without its weights, on the meta device.

    Raises UnsupportedModel, with the reason, for what `require_dense` refuses, for weights that
    are packed, offloaded or used in more than one place, and for a layer that is not there.
    """
    result = find_projection(model, layer)
    _require_own_plain_weight(model, result, on_meta)
    return result


def find_projection(model: PreTrainedModel, layer: int) -> Projection:
    """As `projection`, but the weight is not looked at: it may be on the meta device."""
    require_dense(model)
    prefix, block = _layer(model, layer)
    attention = [name for name, module in block.named_modules() if name and _is_attention(module)]
    candidates = [
        (name, module)
        for name, module in _onto_residual_stream(block, width(model))
        if not any(name.startswith(f"{outer}.") for outer in attention)
    ]
    if not candidates:
        raise UnsupportedModel(
            f"layer {layer} has no dense MLP output projection of width {width(model)}: "
            "mixture-of-experts and custom MLPs cannot be edited by this method"
        )
    name, module = candidates[-1]
    return Projection(layer, f"{prefix}.{name}.weight", module, isinstance(module, Conv1D))


def attention_output(model: PreTrainedModel, layer: int) -> nn.Module:
    """The attention's output projection of decoder layer `layer` (`o_proj`, `c_proj`, `dense`, …).

    It is the last linear map inside the attention whose output is as wide as the residual stream
    and that is not named as one onto queries, keys, values or a gate.
    Raises UnsupportedModel when the layer or the map is not there.
    """
    _, block = _layer(model, layer)
    outer = [module for module in block.modules() if _is_attention(module)]
    candidates = [
        module
        for attention in outer
        for name, module in _onto_residual_stream(attention, width(model))
        if not _ATTENTION_INPUT.match(name.rpartition(".")[2])
    ]
    if not candidates:
        raise UnsupportedModel(f"layer {layer} has no attention output of width {width(model)}")
    return candidates[-1]


def require_dense(model: PreTrainedModel) -> None:
    """Raise UnsupportedModel, with the reason, for a model that has no plain dense layers.

    These are quantised models, mixture-of-experts models (even if only some layers have experts),
    models with an adapter that is not merged, and models without decoder layers. Reads modules and
    the config, not weights.
    """
    if getattr(model.config, "quantization_config", None) is not None:
        raise UnsupportedModel(_QUANTISED)
    for block in layers(model):
        for name, module in block.named_modules():
            kind = type(module).__name__.lower()
            if "moe" in kind or "expert" in kind or "sparsemlp" in kind:
                raise UnsupportedModel(
                    "the model is a mixture of experts: it has no one matrix that holds a fact"
                )
            if name.endswith(".base_layer"):
                raise UnsupportedModel(
                    "the model carries a PEFT adapter: merge it (merge_and_unload) and edit that"
                )


def _layer(model: PreTrainedModel, layer: int) -> tuple[str, nn.Module]:
    prefix, stack = _stack(model)
    if not 0 <= layer < len(stack):
        raise UnsupportedModel(
            f"the model has layers 0 to {len(stack) - 1}, not {layer}: name one of these"
        )
    return f"{prefix}.{layer}", stack[layer]


def _stack(model: PreTrainedModel) -> tuple[str, nn.ModuleList]:
    """The decoder layers, and their name in the whole model."""
    count = depth(model)
    decoder = [] if model.config.is_encoder_decoder else model.get_decoder().modules()
    inside = {id(module) for module in decoder}
    for name, module in model.named_modules():
        if id(module) in inside and _is_stack(module, count):
            return name, module
    raise UnsupportedModel(
        f"{type(model).__name__} has no stack of {count} decoder layers: "
        "only decoder-only language models can be edited"
    )


def _is_stack(module: nn.Module, count: int) -> TypeGuard[nn.ModuleList]:
    return (
        isinstance(module, nn.ModuleList)
        and len(module) == count
        and all(any(_is_attention(inner) for inner in layer.modules()) for layer in module)
    )


def _is_attention(module: nn.Module) -> bool:
    return "attention" in type(module).__name__.lower()


def _onto_residual_stream(module: nn.Module, width: int) -> Iterator[tuple[str, nn.Module]]:
    """Linear maps inside the module with outputs of that width, in the order of registration."""
    for name, inner in module.named_modules():
        if _output_width(inner) == width:
            yield name, inner


def _output_width(module: nn.Module) -> int | None:
    if isinstance(module, Conv1D):
        return int(module.nf)
    if isinstance(module, nn.Linear):
        return module.out_features
    return None


def _require_own_plain_weight(model: PreTrainedModel, target: Projection, on_meta: bool) -> None:
    weight = target.module.weight
    if not isinstance(weight, Tensor) or weight.dtype not in _PLAIN:
        raise UnsupportedModel(_QUANTISED)
    if weight.is_meta and not on_meta:
        raise UnsupportedModel(f"{target.name} is offloaded: load the whole model on one device")
    users = [
        name for name, other in model.named_parameters(remove_duplicate=False) if other is weight
    ]
    if len(users) > 1:
        raise UnsupportedModel(
            f"one matrix is used as {' and as '.join(users)}: an edit of one place would change all"
        )
