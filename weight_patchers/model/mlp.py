"""Finds the MLP of a decoder layer as a map that could have more inner units.

A plain MLP is W_out act(W_in h + b_in) + b_out; a gated one W_out (act(W_gate h) * (W_up h)). Its
parts are found from the model's own modules: the output projection as `layers.projection` finds
it, and, in the module that holds it, the maps from the width of the residual stream to the inner
width and the activation.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from weight_patchers.errors import UnsupportedModel, WrongBase
from weight_patchers.model.layers import Projection, depth, layers, projection

_ACTIVATIONS = ("act_fn", "act", "activation_fn", "activation", "gelu_impl")
_HARMLESS = re.compile("dropout", re.IGNORECASE)


@dataclass(frozen=True, eq=False)
class Mlp:
    """The MLP of decoder layer `layer`; `name` is that of the module which holds its projection.

    `inner` holds, by the name of their module in the whole model, the maps from the residual stream
    to the inner units. There is one in a plain MLP. In a gated one there are the gate's and the
    other, in this order, or one (`fused`) whose first half of outputs is the gate. `activation`
    maps tensors of any shape, entry by entry.
    """

    name: str
    output: Projection
    inner: Mapping[str, nn.Module]
    activation: Callable[[Tensor], Tensor]
    gated: bool

    @property
    def layer(self) -> int:
        return self.output.layer

    @property
    def first(self) -> nn.Module:
        """A module whose input is the MLP's input h."""
        return next(iter(self.inner.values()))

    @property
    def fused(self) -> bool:
        """Whether one matrix holds both the gate and the other map."""
        return self.gated and len(self.inner) == 1

    @property
    def biased(self) -> bool:
        """Whether its inner units have a bias."""
        return getattr(self.first, "bias", None) is not None


def mlp(model: PreTrainedModel, layer: int, *, on_meta: bool = False) -> Mlp:
    """The MLP of decoder layer `layer`, counted from 0; `on_meta` as for `projection`.

    Raises UnsupportedModel for what `projection` refuses, and for an MLP that is neither a plain
    nor a gated one.
    """
    output = projection(model, layer, on_meta=on_meta)
    name = _holder(output)
    holder = model.get_submodule(name)
    inner = {
        f"{name}.{key}": module
        for key, module in holder.named_children()
        if module is not output.module and _shape(module)[0] == output.d_out
    }
    widths = [_shape(module)[1] for module in inner.values()]
    gates = [path for path in inner if "gate" in path.rpartition(".")[2].lower()]
    activation = _activation(holder, among_others=holder in list(layers(model)))
    if activation is not None and widths == [output.d_in]:
        return Mlp(name, output, inner, activation, gated=False)
    if activation is not None and widths == [2 * output.d_in]:
        return Mlp(name, output, inner, activation, gated=True)
    if activation is not None and widths == [output.d_in] * 2 and len(gates) == 1:
        ordered = {path: inner[path] for path in sorted(inner, key=lambda path: path not in gates)}
        return Mlp(name, output, ordered, activation, gated=True)
    raise UnsupportedModel(
        f"{name} is neither a plain MLP nor a gated one whose parts are known, so it cannot get "
        "more inner units: use a method that changes its matrices, such as memit"
    )


def mlp_named(model: PreTrainedModel, name: str) -> Mlp:
    """The MLP with this name. Raises WrongBase when there is none, and as `mlp` does."""
    for layer in range(depth(model)):
        if _holder(projection(model, layer)) == name:
            return mlp(model, layer)
    raise WrongBase(
        f"a delta adds units to {name}, which is no MLP of this model: it was computed for another"
    )


def _holder(output: Projection) -> str:
    return output.name.removesuffix(".weight").rpartition(".")[0]


def _activation(holder: nn.Module, among_others: bool) -> Callable[[Tensor], Tensor] | None:
    """The module's one activation; None if it has none, or more parts that may act on inner units.

    `among_others` says that the module holds more than the MLP.
    """
    found = [getattr(holder, key) for key in _ACTIVATIONS if callable(getattr(holder, key, None))]
    known = [
        module
        for module in holder.children()
        if _shape(module) != (None, None)
        or module in found
        or _HARMLESS.search(type(module).__name__)
    ]
    if len(found) != 1 or (not among_others and len(known) != len(list(holder.children()))):
        return None
    activation: Callable[[Tensor], Tensor] = found[0]
    return activation


def _shape(module: nn.Module) -> tuple[int | None, int | None]:
    """(inputs, outputs) of a linear map."""
    if isinstance(module, Conv1D):
        return int(module.nx), int(module.nf)
    if isinstance(module, nn.Linear):
        return module.in_features, module.out_features
    return None, None
