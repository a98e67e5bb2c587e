"""How much each inner neuron of the MLPs adds to the probability of an answer.

Integrated gradients of the neurons (Dai et al. 2022, arXiv 2104.08696, eq. 4 and its sum): with w
the input of an MLP's output projection at the position where the answer is predicted, w' its value
there and p the answer's probability,

    Attr_i = w'_i / m * sum over k = 1..m of (d p / d w_i) at w = (k / m) w'

where only that position of one layer is scaled, and everything above follows from it. In a gated
MLP w is act(gate) * up, so the formula is the same. The sum over a layer's neurons approaches
p(w') - p(0) as m grows.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import PreTrainedModel

from weight_patchers.errors import ComputationFailed
from weight_patchers.model import hooks
from weight_patchers.model.batch import Batch, pad
from weight_patchers.model.layers import Projection, layers
from weight_patchers.model.suffix import Suffix, read
from weight_patchers.values.passes import pass_tokens


@dataclass(frozen=True)
class Asked:
    """The tokens of a text, and the token that is asked for after it."""

    ids: tuple[int, ...]
    answer: int


def attributions(
    model: PreTrainedModel, targets: Sequence[Projection], asked: Sequence[Asked], steps: int
) -> dict[int, Tensor]:
    """Attr of every neuron for every text: by layer, float32 [texts, d_in] on the CPU.

    `targets` are the projections of ascending layers; the model is frozen. All steps of as many
    texts as a pass may hold are computed at once, one layer after another; of each text only the
    last token is computed anew. Raises ComputationFailed on values that are not finite.
    """
    each = max(1, pass_tokens(model) // steps)
    parts = [
        _of_part(model, targets, asked[start : start + each], steps)
        for start in range(0, len(asked), each)
    ]
    return {target.layer: torch.cat([part[target.layer] for part in parts]) for target in targets}


def _of_part(
    model: PreTrainedModel, targets: Sequence[Projection], asked: Sequence[Asked], steps: int
) -> Mapping[int, Tensor]:
    batch = pad([text.ids for text in asked], model.device)
    answers = torch.tensor([text.answer for text in asked], device=model.device)
    rows = torch.arange(len(asked), device=model.device)
    last = batch.mask.sum(1) - 1
    first = targets[0].layer
    suffix = read(model, first, batch, rows, last, {}, first=last)[0]
    ends = batch.only_from(last)
    stack = layers(model)
    inner = {target.layer: target.module for target in targets}
    outputs = {layer: stack[layer] for layer in range(first, targets[-1].layer)}
    with torch.no_grad(), hooks.captured(inner, outputs, len(asked)) as (activations, states):
        suffix.logits(ends, rows, torch.zeros_like(rows))
    result = {}
    for target in targets:
        layer = target.layer
        own = suffix if layer == first else suffix.above(layer, states[layer - 1])
        found = _integral(target, own, ends, answers, activations[layer][:, 0], steps)
        if not bool(torch.isfinite(found).all()):
            raise ComputationFailed("attributions are not finite: the model's own values are not")
        result[layer] = found.cpu()
    return result


def _integral(
    target: Projection,
    suffix: Suffix,
    ends: Batch,
    answers: Tensor,
    activation: Tensor,
    steps: int,
) -> Tensor:
    """Attr of one layer's neurons, float32 [texts, d_in], from their values [texts, d_in]."""
    texts = torch.arange(len(answers), device=answers.device).repeat_interleave(steps)
    shares = torch.arange(1, steps + 1, device=answers.device) / steps
    scaled = activation.float()[:, None] * shares[:, None]
    scaled = scaled.flatten(0, 1).to(activation.dtype).requires_grad_()
    rows = torch.arange(len(texts), device=texts.device)
    with hooks.given(target.module, scaled):
        batch = Batch(ends.ids[texts], ends.mask[texts])
        logits = suffix.only(texts, 1).logits(batch, rows, torch.zeros_like(rows))
    p = logits.float().softmax(-1)[rows, answers[texts]]
    (gradient,) = torch.autograd.grad(p.sum(), scaled)
    mean: Tensor = gradient.float().unflatten(0, (len(answers), steps)).mean(1)
    return activation.float() * mean
