"""Extra inner units beside the MLPs of a plain Transformers model, added by hooks.

The matrices stay as they are, so a model without the hooks is the model that it was, bit for bit.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn
from transformers import PreTrainedModel

from weight_patchers.delta import Neurons
from weight_patchers.errors import WrongBase
from weight_patchers.model.mlp import Mlp, mlp_named


def activations(
    parts: Mapping[str, Tensor], hidden: Tensor, activation: Callable[[Tensor], Tensor]
) -> Tensor:
    """a(h) [..., r] of units with these parts (see `Neurons`) at the MLP inputs `hidden` [..., d].

    Differentiable in the parts.
    """
    if "g" in parts:
        return activation(hidden @ parts["g"]) * (hidden @ parts["u"])
    bias = parts.get("b")
    return activation(F.linear(hidden, parts["k"].T, bias))


@contextmanager
def attached(model: PreTrainedModel, neurons: Mapping[str, Neurons]) -> Iterator[None]:
    """Inside, each MLP that is named has these units too, rounded to the model's dtype.

    Raises WrongBase when they do not fit the model, and UnsupportedModel when its MLPs cannot have
    more units.
    """
    with ExitStack() as undo:
        for name, units in neurons.items():
            target = mlp_named(model, name)
            _require_fit(target, units)
            like = target.output.weight
            parts = {part: tensor.to(like) for part, tensor in units.parts().items()}
            undo.enter_context(added(target, parts))
        yield


@contextmanager
def added(target: Mlp, parts: Mapping[str, Tensor]) -> Iterator[None]:
    """Inside, the MLP has units with these parts, of any floating dtype, on its device."""
    inputs: list[Tensor] = []

    def note(_module: nn.Module, args: tuple[Any, ...]) -> None:
        inputs[:] = [args[0]]

    def add(_module: nn.Module, _args: tuple[Any, ...], output: Tensor) -> Tensor:
        hidden = inputs.pop().to(parts["v"].dtype)
        units = activations(parts, hidden, target.activation)
        return output + (units @ parts["v"].T).to(output.dtype)

    with ExitStack() as undo:
        undo.callback(target.first.register_forward_pre_hook(note).remove)
        undo.callback(target.output.module.register_forward_hook(add).remove)
        yield


def _require_fit(target: Mlp, units: Neurons) -> None:
    if units.width != target.output.d_out or units.gated != target.gated:
        raise WrongBase(
            f"a delta adds units to {target.name} that do not fit it, so it was computed for "
            "another model: compute the edit again"
        )
