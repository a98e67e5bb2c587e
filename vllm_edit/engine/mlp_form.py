"""What an MLP of vLLM's computes, as far as further inner units of it need to know."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import Tensor, nn

from vllm_edit.domain.errors import SwapFailed
from vllm_edit.vllm_interface.layers import is_linear

_PROBED = 64
"""Inner units of the probe that shows what an activation takes."""


@dataclass(frozen=True, eq=False)
class MlpForm:
    """``activation`` makes the inner units [..., r] of what the inner maps give.

    That is [..., r], or in a gated MLP [..., 2 r]: gate and up, one behind the other. ``width`` is
    that of the MLP's input and output.
    """

    width: int
    gated: bool
    activation: Callable[[Tensor], Tensor]

    @classmethod
    def of(cls, name: str, mlp: nn.Module, output: Any) -> Self:
        """That of a module of vLLM's, without adapters, and its output projection.

        Raises SwapFailed when it is of another form.
        """
        children: Sequence[Any] = [
            child for child in mlp.children() if not isinstance(child, nn.Dropout | nn.Identity)
        ]
        linear = [child for child in children if is_linear(child)]
        others = [child for child in children if not is_linear(child)]
        inner_width = sum(child.output_size for child in linear if child is not output)
        maps = inner_width / output.input_size
        if len(others) != 1 or maps not in (1, 2):
            raise SwapFailed(
                f"{name} is no MLP that extra units can be added to: it needs one activation, and "
                "an inner map or a gated pair of them. Start the server without "
                "--edit-spare-units, or name other layers in --edit-spare-layers."
            )
        (activation,) = others
        gated = maps == 2
        if gated and not _takes_both(activation, output):
            return cls(output.output_size, gated, _gated_by(activation))
        return cls(output.output_size, gated, activation)


def _takes_both(activation: nn.Module, output: Any) -> bool:
    """Whether it takes gate and up joined, as vLLM's own do, and multiplies them."""
    probe = torch.zeros(1, 2 * _PROBED, dtype=output.params_dtype, device=output.weight.device)
    return bool(activation(probe).shape[-1] == _PROBED)


def _gated_by(activation: nn.Module) -> Callable[[Tensor], Tensor]:
    def multiplied(joined: Tensor) -> Tensor:
        gate, up = joined.chunk(2, dim=-1)
        product: Tensor = activation(gate) * up
        return product

    return multiplied
