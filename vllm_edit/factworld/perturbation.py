"""Noise and edits added to the MLPs at the subject during training."""

import torch
from torch import Tensor
from torch.nn import functional

from vllm_edit.factworld.model import BEFORE_READING, FactModel, Noise
from vllm_edit.factworld.rows import LAST, TrainingBatch

EDIT_STEPS = 3
EDIT_TOKENS = 20


def noise_at_subjects(
    lesson: TrainingBatch, width: int, size: float, generator: torch.Generator
) -> list[Noise]:
    """Noise on one early MLP's output at the subject's last token, for half of the rows."""
    layer = torch.randint(2 * BEFORE_READING, (len(lesson.ids), 1), generator=generator)
    chosen = (lesson.role == LAST) & lesson.frozen
    noise = []
    for index in range(BEFORE_READING):
        rows, places = (chosen & (layer == index)).nonzero(as_tuple=True)
        values = size * torch.randn(len(rows), width, generator=generator)
        noise.append(Noise(rows, places, values))
    return noise


def edit(model: FactModel, lesson: TrainingBatch, layer: int, size: Tensor) -> list[Noise]:
    """A simplified ROME edit of this layer's MLP output at each row's subject.

    Takes EDIT_STEPS normalised gradient steps towards the new answer of the row's first branch.
    Together they are at most `size` [rows, 1] times the output's norm. The model learns to give
    the new answer under the edit and to keep the subject's other answers.
    """
    head = lesson.head(EDIT_TOKENS)
    rows, places = ((head.role == LAST) & (head.branch == 1)).nonzero(as_tuple=True)
    width = model.shape.width
    delta = torch.zeros(len(lesson.ids), width, device=size.device)
    for _ in range(EDIT_STEPS):
        delta.requires_grad_()
        loss, _ = model.loss(head, at_layer(layer, Noise(rows, places, delta[rows])))
        (gradient,) = torch.autograd.grad(loss, delta)
        step = functional.normalize(gradient, dim=1) * size * width**0.5 / EDIT_STEPS
        delta = delta.detach() - step
    rows, places = (lesson.role == LAST).nonzero(as_tuple=True)
    return at_layer(layer, Noise(rows, places, delta[rows]))


def at_layer(layer: int, noise: Noise) -> list[Noise]:
    """This noise at one early layer, and empty noise at the others."""
    none = Noise(noise.rows[:0], noise.places[:0], noise.values[:0])
    return [noise if index == layer else none for index in range(BEFORE_READING)]
