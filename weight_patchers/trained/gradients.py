"""The gradient of an edit's loss at a matrix, in factors."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from weight_patchers.model.layers import Projection
from weight_patchers.model.suffix import logits_at
from weight_patchers.values.optimisation import target_nll
from weight_patchers.values.problem import Problem


@dataclass(frozen=True, eq=False)
class GradientFactors:
    """The gradient of each edit's loss: dL_e/dW = sum over t of delta[e, t] x[e, t]^T.

    `x` [edits, tokens, d_in] is the matrix's input, `delta` [edits, tokens, d_out] the gradient of
    its output, both float32; W is [d_out, d_in]. Both are zero where `mask` [edits, tokens] is
    False: at padding, and at tokens that the loss does not depend on.
    """

    x: Tensor
    delta: Tensor
    mask: Tensor

    @classmethod
    def of(cls, x: Tensor, delta: Tensor, tokens: Tensor) -> "GradientFactors":
        """Without the tokens that are none, or at which one of the factors is all zero."""
        mask = tokens.bool() & (x != 0).any(-1) & (delta != 0).any(-1)
        return cls(x * mask[..., None], delta * mask[..., None], mask)

    def dense(self) -> Tensor:
        """The gradients themselves, [edits, d_out, d_in]."""
        return self.delta.transpose(1, 2) @ self.x


Gradients = Mapping[int, GradientFactors]
"""By layer."""


def read_gradients(
    model: PreTrainedModel, targets: Mapping[int, Projection], problem: Problem
) -> dict[int, GradientFactors]:
    """The gradients of each edit's own loss, `target_nll`, at each of the matrices.

    The model's parameters must not require gradients. Each edit is a group of the problem with
    as many rows as every other; its tokens are those of all its rows. The model is left unchanged.
    """
    inputs: dict[int, Tensor] = {}
    outputs: dict[int, Tensor] = {}
    with torch.enable_grad(), _read(targets, inputs, outputs):
        logits = logits_at(model, problem.batch, problem.target_rows, problem.target_columns)
        loss = target_nll(logits, problem).sum()
    layers = sorted(outputs)
    gradients = torch.autograd.grad(loss, [outputs[layer] for layer in layers])
    edits, (rows, length) = problem.groups, problem.batch.mask.shape
    tokens = problem.batch.mask.reshape(edits, -1)
    return {
        layer: GradientFactors.of(
            inputs[layer].reshape(rows, length, -1).reshape(*tokens.shape, -1).float(),
            gradient.reshape(rows, length, -1).reshape(*tokens.shape, -1).float(),
            tokens,
        )
        for layer, gradient in zip(layers, gradients, strict=True)
    }


@contextmanager
def _read(
    targets: Mapping[int, Projection], inputs: dict[int, Tensor], outputs: dict[int, Tensor]
) -> Iterator[None]:
    def keep(layer: int, _module: nn.Module, args: tuple[Any, ...], output: Tensor) -> Tensor:
        inputs[layer] = args[0].detach()
        outputs[layer] = output if output.requires_grad else output.detach().requires_grad_()
        return outputs[layer]

    handles = [
        target.module.register_forward_hook(partial(keep, layer))
        for layer, target in targets.items()
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
