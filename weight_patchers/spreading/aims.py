"""Where the methods that spread edits optimise their values, and what each layer is to reach."""

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from weakref import WeakKeyDictionary

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import PreTrainedModel

from weight_patchers.model import hooks
from weight_patchers.model.layers import Projection, layers
from weight_patchers.values.optimisation import Site, TargetValues
from weight_patchers.values.problem import Problem
from weight_patchers.values.workload import Mean, Workload, keys_and_states

Targets = Mapping[int, Projection]
"""The matrices to write, by layer."""

_TOLERANCE = 0.05
"""More than bfloat16 rounds the sum of two vectors of one length by, relative to that length."""

_arrivals: WeakKeyDictionary[PreTrainedModel, dict[int, bool]] = WeakKeyDictionary()


@dataclass(frozen=True, eq=False)
class Aim:
    """What one layer's update is for: it adds `share` of what `module`'s output still lacks of
    `value` [n, groups, d], both means of one kind, to the output of its projection."""

    module: nn.Module
    value: Tensor
    share: float


Aims = Callable[[Workload, TargetValues, Mean], dict[int, Aim]]
"""The aims of the layers for the values of a workload, in the model as it is; the mean says over
which of its rows."""


def arrives_unchanged(model: PreTrainedModel, target: Projection, problem: Problem) -> bool:
    """Whether a vector added to the projection's output is added to its layer's output as it is.

    It is not where a norm or a factor stands between the two, or the layer's sum is normed.
    Tried at the subject of the problem's first prompt, with a vector as long as the layer's output,
    and once for a layer of a model: it depends on what the layer is made of.
    """
    known = _arrivals.setdefault(model, {})
    if target.layer not in known:
        known[target.layer] = _try_arrival(model, target, problem)
    return known[target.layer]


def _try_arrival(model: PreTrainedModel, target: Projection, problem: Problem) -> bool:
    batch, subject = problem.batch.rows(1), problem.subjects[:1]

    def output(added: Tensor | None) -> Tensor:
        with torch.no_grad(), ExitStack() as undo:
            if added is not None:
                undo.enter_context(hooks.added(target.module, subject, added[None]))
            last = {0: layers(model)[target.layer]}
            with hooks.captured({}, last, 1) as (_, outputs):
                model(**batch.arguments())
        return outputs[0][0, subject[0]].float()

    before = output(None)
    vector = before.roll(1)
    missing = output(vector) - before - vector
    return float(missing.norm()) <= _TOLERANCE * float(vector.norm())


def at_projections(site: Site, targets: Targets) -> Site:
    """The site with the outputs of all projections in place of its last module.

    The values of all layers are optimised together, each where it is written, so what stands
    between a projection and the residual stream is part of the optimisation. The layers share the
    length of a step.
    """
    first, *_ = targets.values()
    others = len(site.modules) - 1
    return Site(
        first.layer,
        (*site.modules[:-1], *(target.module for target in targets.values())),
        (*(site.paces or (1.0,) * others)[:others], *[1 / len(targets)] * len(targets)),
    )


def common_aims(
    model: PreTrainedModel,
    targets: Targets,
    site: Site,
    share: Callable[[int], float],
    length: float | None,
    work: Workload,
    values: TargetValues,
    mean: Mean,
) -> dict[int, Aim]:
    """One value for all layers: each takes its share of what the site's last module lacks.

    With a `length`, every value has it: the norm anchor of NAS (arXiv 2602.02543). Edits made in
    an edited model find longer and longer values, and longer values make larger updates.
    `share(left)` is the part that a layer takes when `left` layers are to come, itself included.
    """
    module = site.modules[-1]
    states = keys_and_states(model, {}, {0: module}, work.problems, mean=mean)[1][0]
    value = anchored(states + values.delta[-1], length)
    return {
        layer: Aim(module, value, share(len(targets) - number))
        for number, layer in enumerate(targets)
    }


def anchored(values: Tensor, length: float | None) -> Tensor:
    """Values [..., d], each with the norm `length` if there is one."""
    return values if length is None else F.normalize(values, dim=-1) * length


def own_aims(
    model: PreTrainedModel, targets: Targets, work: Workload, values: TargetValues, mean: Mean
) -> dict[int, Aim]:
    """For a site of `at_projections`: each layer's projection gets the output that it has with
    the values of all layers added, so what a value in a lower layer does to it is included."""
    modules = {layer: target.module for layer, target in targets.items()}
    added = values.delta[-len(modules) :]
    parts: dict[int, list[Tensor]] = {layer: [] for layer in modules}
    start = 0
    for problem in work.problems:
        own = added[:, start : start + problem.groups]
        start += problem.groups
        with ExitStack() as undo:
            for module, delta in zip(modules.values(), own, strict=True):
                rows = delta[problem.owners]
                undo.enter_context(hooks.added(module, problem.subjects, rows))
            states = keys_and_states(model, {}, modules, [problem], mean=mean)[1]
        for layer, state in states.items():
            parts[layer].append(state)
    return {
        layer: Aim(modules[layer], torch.cat(states, dim=1), 1.0) for layer, states in parts.items()
    }
