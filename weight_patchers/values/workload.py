"""Edits in parts that fit one pass each, with their keys, values and reports."""

from collections.abc import Callable, Iterator, Mapping, MutableMapping, Sequence
from dataclasses import dataclass
from itertools import islice

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from weight_patchers.edit import Edit
from weight_patchers.model import hooks
from weight_patchers.model.layers import Projection
from weight_patchers.values.contexts import Context
from weight_patchers.values.hparams import ValueHparams
from weight_patchers.values.optimisation import Site, TargetValues, optimise_delta, target_outcome
from weight_patchers.values.passes import RowSizes, pass_tokens, split_by_size
from weight_patchers.values.problem import Problem, build_problem, kept_texts

Progress = Callable[[int, int], None]

Mean = Callable[[Problem, Tensor], Tensor]
"""Takes a mean over a problem's rows, by group: [groups, d], or [n, groups, d] for n of them."""

ValueCache = MutableMapping[tuple[Edit, ...], TargetValues]
"""Values by group of edits, all computed in one model under the same conditions."""


@dataclass(frozen=True, eq=False)
class Workload:
    """Groups of edits, and the same in parts: the edits of one group have one subject.

    `order[i]` is the place, in the edits as they were given, of the i-th edit in group order.
    """

    groups: Sequence[Sequence[Edit]]
    problems: Sequence[Problem]
    order: Sequence[int]

    def in_order(self, values: Sequence[Tensor]) -> list[float]:
        """One number for each edit in the given order, from the parts' numbers."""
        flat = torch.cat(list(values)).tolist()
        ordered = [0.0] * len(flat)
        for place, value in zip(self.order, flat, strict=True):
            ordered[place] = value
        return ordered

    def each(self) -> "Iterator[Workload]":
        """The groups one by one, each as if it were alone."""
        groups = iter(self.groups)
        for problem in self.problems:
            for number in range(problem.groups):
                group = next(groups)
                chosen = torch.arange(problem.groups, device=problem.owners.device) == number
                yield Workload([group], [problem.only(chosen)[0]], range(len(group)))


def plan_workload(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    edits: Sequence[Edit],
    contexts: Sequence[Context],
    hp: ValueHparams,
    *,
    share_subjects: bool = False,
    bare_share: float | None = None,
) -> Workload:
    """Group the edits, each alone or all of a subject together, and tokenize them in parts.

    Edits of one subject have the same key if the subject comes first, and a linear map gives one
    key one value: together they get one value that serves all of them.
    """
    places_by_group: dict[object, list[int]] = {}
    for place, edit in enumerate(edits):
        places_by_group.setdefault(edit.subject if share_subjects else place, []).append(place)
    groups = [[edits[place] for place in places] for places in places_by_group.values()]
    measure = RowSizes.of(tokenizer, contexts, hp)
    bound = pass_tokens(model) if hp.pass_tokens is None else hp.pass_tokens
    problems = []
    for piece in split_by_size(groups, measure, bound):
        kept = kept_texts(model, tokenizer, [group[0].subject for group in piece], hp)
        problems.append(build_problem(tokenizer, piece, contexts, kept, model.device, bare_share))
    return Workload(
        groups, problems, [place for places in places_by_group.values() for place in places]
    )


def compute_z(
    model: PreTrainedModel,
    site: Site,
    workload: Workload,
    hp: ValueHparams,
    progress: Progress | None = None,
    cache: ValueCache | None = None,
) -> TargetValues:
    """The target values of all groups, part by part; `progress(done, of)` counts edits.

    Values in the `cache` are used again; afterwards it holds only those of these groups.
    """
    cached = {} if cache is None else cache
    values: dict[tuple[Edit, ...], TargetValues] = {}
    done, groups = 0, iter(workload.groups)
    for problem in workload.problems:
        part = [tuple(group) for group in islice(groups, problem.groups)]
        values |= {group: cached[group] for group in part if group in cached}
        if new := [group for group in part if group not in cached]:
            missing = torch.tensor([group not in cached for group in part])
            missing = missing.to(problem.owners.device)
            rest = problem if bool(missing.all()) else problem.only(missing)[0]
            optimised = optimise_delta(model, site, rest, hp)
            values |= zip(new, optimised.each([len(group) for group in new]), strict=True)
        done += len(problem.edit_groups)
        if progress is not None:
            progress(done, len(workload.order))
    if cache is not None:
        cache.clear()
        cache.update(values)
    return TargetValues.joined([values[tuple(group)] for group in workload.groups])


def keys_and_states(
    model: PreTrainedModel,
    projections: Mapping[int, Projection],
    modules: Mapping[int, nn.Module],
    problems: Sequence[Problem],
    *,
    mean: Mean = Problem.average,
) -> tuple[dict[int, Tensor], dict[int, Tensor]]:
    """Keys and states at the subject's last token, float32.

    The key k* [n, groups, d_in] is a projection's input there, the state [n, groups, d] a module's
    output; `mean` takes both over a problem's rows. n is 1 for `Problem.average`, over the group's
    contexts by their shares (Meng et al. 2022, eq. 3), and for `Problem.alone`. The pass ends after
    the last module needed.
    """
    targets = {layer: projection.module for layer, projection in projections.items()}
    keys: dict[int, list[Tensor]] = {layer: [] for layer in targets}
    states: dict[int, list[Tensor]] = {key: [] for key in modules}
    for problem in problems:
        index = torch.arange(len(problem.subjects), device=problem.subjects.device)
        with torch.no_grad(), hooks.captured(targets, modules, len(index)) as captured:
            model(**problem.batch.arguments())
        for parts, values in zip((keys, states), captured, strict=True):
            for key, value in values.items():
                taken = mean(problem, value[index, problem.subjects])
                parts[key].append(taken[None] if taken.dim() == 2 else taken)
    return _joined(keys), _joined(states)


def _joined(parts: Mapping[int, Sequence[Tensor]]) -> dict[int, Tensor]:
    return {key: torch.cat(list(tensors), dim=1) for key, tensors in parts.items()}


def edit_reports(
    model: PreTrainedModel, workload: Workload, values: TargetValues
) -> list[dict[str, float | int]]:
    """For each edit in the given order: the optimisation's result, and the model's answer now."""
    outcomes = [target_outcome(model, problem) for problem in workload.problems]
    groups = torch.repeat_interleave(
        torch.arange(len(workload.groups)), torch.tensor([len(g) for g in workload.groups])
    )
    moved = (values.delta.norm(dim=-1) / values.scale).amax(0).cpu()[groups]
    columns = {
        "steps": values.steps[groups],
        "delta_norm": moved,
        "probability_before": values.before,
        "probability_reached": values.reached,
        "probability_after": torch.cat([probability for probability, _ in outcomes]),
        "greedy_after": torch.cat([greedy for _, greedy in outcomes]),
    }
    ordered = {name: workload.in_order([column]) for name, column in columns.items()}
    ordered["steps"] = [int(steps) for steps in ordered["steps"]]
    return [dict(zip(ordered, row, strict=True)) for row in zip(*ordered.values(), strict=True)]
