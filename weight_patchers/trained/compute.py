"""Edits made by a trained editor."""

from collections.abc import Mapping
from dataclasses import replace

import torch
from transformers import PreTrainedModel

from weight_patchers.delta import Delta, LowRank
from weight_patchers.edit import Edit, require_distinct
from weight_patchers.errors import ComputationFailed
from weight_patchers.fine_tuning.compute import edit_reports, problems_of
from weight_patchers.job import Job
from weight_patchers.model.batch import Batch
from weight_patchers.model.layers import Projection
from weight_patchers.trained.changes import Changes, Factors, applied
from weight_patchers.trained.condition import conditions
from weight_patchers.trained.editor import TrainedEditor
from weight_patchers.trained.file import command, find
from weight_patchers.trained.gradients import read_gradients
from weight_patchers.values.optimisation import target_outcome
from weight_patchers.values.problem import Problem


def compute(kind: type[TrainedEditor], job: Job) -> Delta:
    """The sum of the changes that the editor makes of each edit alone; one low-rank delta.

    Every edit is computed on the base, not on the deltas that are live, so the sum depends neither
    on the order of edits nor on what else is live. The rank is at most the number of all edits'
    tokens, times `steps`. Without an editor in the job, the shipped one for this base is taken.
    Raises UntrainedEditor when there is none, and ConflictingEdits for two edits of one fact.
    """
    if not job.edits:
        return job.nothing(kind.method)
    require_distinct(job.edits)
    editor = _editor(kind, job)
    order = sorted(range(len(job.edits)), key=lambda i: _text(job.edits[i]))
    ordered = replace(job, edits=[job.edits[i] for i in order])
    with job.base(), job.writable() as (targets, controls):
        problems = problems_of(job, ordered.edits)
        before = torch.cat([target_outcome(job.model, problem)[0] for problem in problems])
        parts, steps = _changes(ordered, editor, targets, problems)
        made = {
            layer: _joined(targets[layer], [part[layer] for part in parts]) for layer in targets
        }
        norms = {}
        for layer, change in made.items():
            target, base = targets[layer], targets[layer].matrix()
            update = change.dense().to(base.device)
            target.write(base + update)
            norms[target.name] = float(update.norm() / base.norm())
        reports = edit_reports(job.model, problems, before, 1)
        drift = controls.drift(job.model)
    reports = [{**report, "steps": n} for report, n in zip(reports, steps, strict=True)]
    places = sorted(range(len(order)), key=order.__getitem__)
    diagnostics = {
        "relative_norm": norms,
        "drift": drift,
        "edits": [reports[place] for place in places],
    }
    return job.delta(
        kind.method, {targets[layer].name: change for layer, change in made.items()}, diagnostics
    )


def compute_each(kind: type[TrainedEditor], job: Job) -> list[Delta]:
    """The deltas of one `compute` call for each edit."""
    if not job.edits:
        return []
    editor = _editor(kind, job)
    return [compute(kind, replace(job, edits=[edit], trained=editor)) for edit in job.edits]


def make_changes(
    model: PreTrainedModel,
    editor: TrainedEditor,
    targets: Mapping[int, Projection],
    problem: Problem,
    condition: Batch | None,
) -> tuple[Changes, list[int]]:
    """Each edit's change, made up to `hparams.steps` times, and how often it was made."""
    hparams = editor.hparams
    wanted = torch.ones(problem.groups, device=problem.owners.device)
    counts = wanted.clone()
    total: dict[int, Factors] = {}
    for step in range(hparams.steps):
        with applied(targets, total, problem.owners):
            if step:
                wanted = (target_outcome(model, problem)[1] < 1).float().to(wanted.device)
                counts += wanted
                if not bool(wanted.any()):
                    break
            gradients = read_gradients(model, targets, problem)
        new = editor.changes(gradients, condition)
        scaled = {layer: factors.scaled(wanted * hparams.scale) for layer, factors in new.items()}
        total = {k: total[k].joined(f) if k in total else f for k, f in scaled.items()}
    return total, [int(count) for count in counts]


def _changes(
    job: Job,
    editor: TrainedEditor,
    targets: Mapping[int, Projection],
    problems: list[Problem],
) -> tuple[list[Changes], list[int]]:
    """Each problem's changes, and how often each edit was made."""
    rest, parts, steps = list(job.edits), [], []
    for problem in problems:
        edits, rest = rest[: problem.groups], rest[problem.groups :]
        condition = conditions(job.model, job.tokenizer, edits) if editor.conditioned else None
        with torch.no_grad():
            changes, counts = make_changes(job.model, editor, targets, problem, condition)
        parts.append(changes)
        steps += counts
    return parts, steps


def _joined(target: Projection, parts: list[Factors]) -> LowRank:
    """The sum of all edits' changes of a matrix."""
    pairs = [part.of_edit(edit) for part in parts for edit in range(len(part.u))]
    u, v = (
        torch.cat(list(side), dim=1).float().cpu().contiguous() for side in zip(*pairs, strict=True)
    )
    if not bool(torch.isfinite(u).all() and torch.isfinite(v).all()):
        raise ComputationFailed("the editor made a change that is not finite: train it again")
    return LowRank(u, v, target.transposed)


def _editor(kind: type[TrainedEditor], job: Job) -> TrainedEditor:
    """The job's editor with the job's hyperparameters, on the model's device."""
    editor: TrainedEditor = job.trained or find(kind, job.model, job.statistics.fingerprint)
    job.hparams.require_trained(editor.hparams, command(kind.method))
    editor.hparams = job.hparams
    return editor.to(job.model.device).eval().requires_grad_(False)


def _text(edit: Edit) -> tuple[str, str, str]:
    return edit.prompt, edit.subject, edit.target_new
