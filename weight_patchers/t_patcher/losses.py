"""The losses of T-Patcher (Huang et al. 2023, arXiv 2301.09785, section 3.3).

s(h) is what a unit answers to an input h before its activation: k.h + b in a plain MLP, and g.h in
a gated one. (A gated unit's whole output act(g.h) (u.h) is no such s: it can be far below 0, and
then writes as much as one far above.)
"""

from collections.abc import Mapping

import torch.nn.functional as F
from torch import Tensor


def first_keys(inputs: Tensor) -> Tensor:
    """q / ||q||^2 for each input q [n, d]: the key whose product with it is 1."""
    return inputs / inputs.square().sum(-1, keepdim=True)


def scores(parts: Mapping[str, Tensor], hidden: Tensor) -> Tensor:
    """s [n, r] of units with these parts (see `Neurons`) for the MLP inputs `hidden` [n, d]."""
    if "g" in parts:
        return hidden @ parts["g"]
    return F.linear(hidden, parts["k"].T, parts.get("b"))


def activation_loss(own: Tensor, top: int) -> Tensor:
    """The mean of the `top` largest exp(-s_i(q_i)); `own` [r] are the units' s for their inputs."""
    return own.neg().topk(min(top, len(own))).values.exp().mean()


def memory_loss(memory: Tensor, own: Tensor, margin: float, top: int) -> Tensor:
    """How much units answer to other text: with `memory` [n, r] their s for its inputs m,

        mean of the `top` largest exp(s(m) - s(q) + margin)
        + mean of the `top` largest exp(s(m) + margin)

    of each unit, and of that the mean over the units. (The paper takes the largest over the units
    of one edit together; for each unit alone, an edit has the same loss in a batch.)
    """
    largest = memory.topk(min(top, len(memory)), dim=0).values
    return (largest - own + margin).exp().mean() + (largest + margin).exp().mean()
