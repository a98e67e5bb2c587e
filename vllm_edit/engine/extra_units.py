"""Spare inner units beside an MLP of vLLM's, and the values that edits give them."""

import os
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from vllm_edit.domain.errors import SwapFailed
from vllm_edit.engine.exchange import Exchange, change_places, digest_of
from vllm_edit.engine.mlp_form import MlpForm
from weight_patchers import Neurons

COUNT = "VLLM_EDIT_SPARE_UNITS"
"""The setting of how many there are, as a worker process finds it in its environment."""

_CHILD = "edit_units"


class ExtraUnits(nn.Module):
    """``count`` inner units of the MLP that the checkpoint names ``mlp``, all zero at first.

    They add v act(k^T h + b), or in a gated MLP v (act(g^T h) * (u^T h)), to the MLP's output
    for h; see `Neurons`. That output is already summed over the tensor-parallel ranks, and each
    rank adds the units once, all of them.

    The tensors keep their storage, so that CUDA graphs stay valid, and are parameters, so that
    vLLM's own checksums cover them. `outputs` holds -v, which is subtracted: while all units are
    zero this subtracts +0, and x - 0 is x in every bit, also for x = -0.
    """

    def __init__(
        self, mlp: str, form: MlpForm, count: int, dtype: torch.dtype, device: torch.device
    ) -> None:
        super().__init__()
        self.mlp = mlp
        self.form = form
        self.count = count

        def zeros(*shape: int) -> nn.Parameter:
            return nn.Parameter(torch.zeros(*shape, dtype=dtype, device=device), False)

        self.inputs = zeros(2 * count if form.gated else count, form.width)
        self.bias = None if form.gated else zeros(count)
        self.outputs = zeros(form.width, count)

    def forward(self, hidden: Tensor, output: Tensor) -> Tensor:
        """``output``, the MLP's for ``hidden``, with what the units add; both are [..., width]."""
        inner = self.form.activation(functional.linear(hidden, self.inputs, self.bias))
        return output - functional.linear(inner, self.outputs)

    def attach(self, module: nn.Module) -> None:
        """Have the MLP ``module`` of vLLM's add the units from now on."""
        module.add_module(_CHILD, self)
        module.register_forward_hook(_add_units)

    def values_of(self, neurons: Neurons) -> dict[str, Tensor]:
        """What the parameters are when these units are in use, by name.

        Raises SwapFailed when the units are of another form, more than there are, or not finite
        in the served dtype.
        """
        values = {name: torch.zeros_like(p) for name, p in self.named_parameters()}
        if neurons.count == 0:
            return values
        if (neurons.width, neurons.gated) != (self.form.width, self.form.gated):
            raise SwapFailed(f"The extra units of {self.mlp} were computed for another model.")
        if neurons.count > self.count:
            raise SwapFailed(f"{self.mlp} has {self.count} spare units, not {neurons.count}.")
        used = slice(neurons.count)
        values["outputs"][:, used] = -neurons.v
        inputs = values["inputs"].split(self.count)
        parts = (neurons.g, neurons.u) if neurons.gated else (neurons.k,)
        for rows, part in zip(inputs, parts, strict=True):
            if part is not None:
                rows[used] = part.T
        if neurons.b is not None:
            values["bias"][used] = neurons.b
        if not all(bool(torch.isfinite(value).all()) for value in values.values()):
            raise SwapFailed(
                f"The extra units of {self.mlp} would have values that are not finite in "
                f"{self.outputs.dtype}. Roll the edit back, or serve the model in float32 or "
                "bfloat16."
            )
        return values

    def digest(self) -> str:
        """SHA-256 of what the units are."""
        return digest_of(parameter.data for parameter in self.parameters())


class UnitsExchange(Exchange):
    """Values for the units of one MLP, beside those that it has."""

    def __init__(self, units: ExtraUnits, neurons: Neurons) -> None:
        super().__init__(units.mlp)
        self._units = units
        self._aside = units.values_of(neurons)

    def _change_places(self) -> None:
        for name, parameter in self._units.named_parameters():
            change_places(parameter.data, self._aside[name])

    def _digest_aside(self) -> str:
        return digest_of(self._aside.values())

    def _digest_served(self) -> str:
        return self._units.digest()


def spare_count(environment: Mapping[str, str] = os.environ) -> int:
    """How many units each MLP of the chosen layers is to have."""
    return int(environment.get(COUNT, "0"))


def units_in(model: nn.Module) -> Mapping[str, ExtraUnits]:
    """The spare units that this rank has, by the checkpoint's name of their MLP."""
    return {module.mlp: module for module in model.modules() if isinstance(module, ExtraUnits)}


def _add_units(module: Any, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
    """The forward hook: torch.compile traces it and the units as part of the model."""
    units: ExtraUnits = getattr(module, _CHILD)
    added: Tensor = units(inputs[0], output)
    return added
