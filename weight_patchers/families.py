"""Where a decoder keeps the matrix that editing methods write to.

The matrix is the MLP's output projection: its input is the key, its output the value that is
added to the residual stream. It is found from the model's own modules, not from its name:

- the decoder layers are the ModuleList with as many entries as the config has hidden layers;
- in a layer, it is the last linear map outside the attention whose output is as wide as the
  residual stream (`down_proj`, `fc2`, `fc_out`, `dense_4h_to_h`, `c_proj`, …).
"""

from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from weight_patchers.errors import UnsupportedModel


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


def projection(model: PreTrainedModel, layer: int) -> Projection:
    """The MLP output projection of decoder layer `layer`, counted from 0.

    Raises UnsupportedModel, with the reason, for quantised and mixture-of-experts models, for
    models without decoder layers, and for a layer that the model does not have.
    """
    _refuse_quantised(model)
    prefix, layers = _decoder_layers(model)
    if not 0 <= layer < len(layers):
        raise UnsupportedModel(
            f"the model has layers 0 to {len(layers) - 1}, not {layer}: name one of these"
        )
    width = int(model.config.get_text_config().hidden_size)
    found = _output_projections(layers[layer], width)
    if not found:
        raise UnsupportedModel(
            f"layer {layer} has no dense MLP output projection of width {width}: "
            "mixture-of-experts and custom MLPs cannot be edited by this method"
        )
    name, module = found[-1]
    weight = module.weight
    if not isinstance(weight, Tensor) or not weight.is_floating_point():
        raise UnsupportedModel("the weights are quantised: edit the model in its original dtype")
    return Projection(layer, f"{prefix}.{layer}.{name}.weight", module, isinstance(module, Conv1D))


def _refuse_quantised(model: PreTrainedModel) -> None:
    if getattr(model.config, "quantization_config", None) is not None:
        raise UnsupportedModel("the weights are quantised: edit the model in its original dtype")


def _decoder_layers(model: PreTrainedModel) -> tuple[str, nn.ModuleList]:
    count = depth(model)
    for name, module in model.named_modules():
        if isinstance(module, nn.ModuleList) and len(module) == count and _is_stack(module):
            return name, module
    raise UnsupportedModel(
        f"{type(model).__name__} has no stack of {count} decoder layers: "
        "only decoder-only language models can be edited"
    )


def _is_stack(layers: nn.ModuleList) -> bool:
    return all(any(_is_attention(m) for m in layer.modules()) for layer in layers)


def _is_attention(module: nn.Module) -> bool:
    return "attention" in type(module).__name__.lower()


def _output_projections(layer: nn.Module, width: int) -> list[tuple[str, nn.Module]]:
    """Linear maps onto the residual stream, outside attention, in the order of registration."""
    for module in layer.modules():
        kind = type(module).__name__.lower()
        if "moe" in kind or "expert" in kind or "sparsemlp" in kind:
            raise UnsupportedModel(
                "the layer is a mixture of experts: it has no one matrix that holds a fact"
            )
    attention = [name for name, m in layer.named_modules() if name and _is_attention(m)]
    return [
        (name, module)
        for name, module in layer.named_modules()
        if _output_width(module) == width
        and not any(name == a or name.startswith(f"{a}.") for a in attention)
    ]


def _output_width(module: nn.Module) -> int | None:
    if isinstance(module, Conv1D):
        return int(module.nf)
    if isinstance(module, nn.Linear):
        return module.out_features
    return None
