"""Breadth-first fine-tuning of all live edits together, beside what other texts need.

Fine-tuning one edit after the other to its end loses what was there before; passes over all edits
in shuffled mini-batches do not (LocFT-BF, Yang et al. 2025, arXiv 2509.22072). The change leaves
alone the directions that carry most of other texts' keys, as CrispEdit does with the curvature of
the loss (arXiv 2602.15823). With the keys' second moment A alone; that of the gradients, B, was
measured and brought nothing on top. Here the change itself is restricted, not each gradient: it is
trained in the coordinates of the other directions, which Adam's scaling cannot leave.
"""

import math
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass

import torch
from torch import Tensor

from weight_patchers.delta import Delta, Dense
from weight_patchers.edit import Edit, require_distinct
from weight_patchers.errors import ComputationFailed
from weight_patchers.fine_tuning.compute import edit_reports, problems_of, shifted, suffix_of
from weight_patchers.fine_tuning.hparams import BreadthFirstHparams
from weight_patchers.job import Job
from weight_patchers.model.layers import Projection
from weight_patchers.model.suffix import Suffix
from weight_patchers.values.optimisation import target_nll, target_outcome
from weight_patchers.values.problem import Problem
from weight_patchers.values.workload import Progress

METHOD = "ft-bf"


def compute(job: Job) -> Delta:
    """One dense delta for all edits, in float32 beside the weights.

    In each pass the edits are shuffled and taken `batch` at a time; Adam lowers the mean over the
    batch of the NLL of the target and its end. A batch whose loss is below `stop_loss` makes no
    step, and training ends after the pass whose mean is below it, or after `steps` passes.

    The delta depends on which edits there are, not on their order. The job's progress counts
    passes. Raises ConflictingEdits for two edits of one fact.
    """
    if not job.edits:
        return job.nothing(METHOD)
    require_distinct(job.edits)
    order = sorted(range(len(job.edits)), key=lambda i: _text(job.edits[i]))
    model, hparams = job.model, job.hparams
    with job.writable() as (targets, controls):
        problems = problems_of(job, [job.edits[i] for i in order])
        before = torch.cat([target_outcome(model, problem)[0] for problem in problems])
        parts = [_Part(problem, suffix_of(model, min(targets), problem)) for problem in problems]
        parameters = [_Parameter.of(job, target) for target in targets.values()]
        passes, loss = _train(parameters, parts, hparams, job.progress)
        changes = {p.target.name: p.change().detach() for p in parameters}
        norms = {}
        for target in targets.values():
            base, change = target.matrix(), changes[target.name]
            target.write(base + change)
            norms[target.name] = float(change.norm() / base.norm())
        reports = edit_reports(model, problems, before, passes)
        drift = controls.drift(model)
    places = sorted(range(len(order)), key=order.__getitem__)
    diagnostics = {
        "relative_norm": norms,
        "drift": drift,
        "loss": loss,
        "edits": [reports[place] for place in places],
    }
    transposed = {target.name: target.transposed for target in targets.values()}
    dense = {name: Dense(change.cpu(), transposed[name]) for name, change in changes.items()}
    return job.delta(METHOD, dense, diagnostics)


def free_directions(moment: Tensor, spared: float) -> Tensor:
    """Orthonormal columns [d_in, s], float64: the directions that a change may use.

    They are the eigenvectors of the keys' second moment [d_in, d_in] without the leading ones,
    as few as carry the share `spared` of its trace; at least one is left.
    """
    values: Tensor
    vectors: Tensor
    values, vectors = torch.linalg.eigh(moment.double())
    values = values.clamp_min(0)
    # Ascending: entry i of the sum is the energy of the directions up to i.
    share = values.cumsum(0) / values.sum()
    count = int((share <= 1 - spared).sum())
    return vectors[:, : max(1, count)]


@dataclass(frozen=True, eq=False)
class _Part:
    """Some of the edits as rows of tokens, and the input of the lowest layer that is trained."""

    problem: Problem
    suffix: Suffix

    def loss(self, parameters: Sequence["_Parameter"], chosen: Tensor) -> Tensor:
        """Sum over the edits that the mask `chosen` marks of their NLL, under the change."""
        problem, rows = self.problem.only(chosen)
        suffix = self.suffix.only(rows, problem.batch.ids.shape[1])
        with ExitStack() as undo:
            for parameter in parameters:
                undo.enter_context(shifted(parameter.target.module, parameter.change()))
            logits = suffix.logits(problem.batch, problem.target_rows, problem.target_columns)
        return target_nll(logits, problem).sum()


@dataclass(frozen=True, eq=False)
class _Parameter:
    """A matrix's change: `unit` times `trained` [d_out, s], in the `directions` [d_in, s]."""

    target: Projection
    trained: Tensor
    unit: float
    directions: Tensor | None

    @classmethod
    def of(cls, job: Job, target: Projection) -> "_Parameter":
        directions, width = None, target.d_in
        if job.hparams.spared is not None:
            moment = job.statistics.moment(target.layer)
            directions = free_directions(moment, job.hparams.spared)
            directions = directions.float().to(target.weight.device)
            width = directions.shape[1]
        trained = torch.zeros(target.d_out, width, device=target.weight.device)
        unit = float(target.matrix().square().mean().sqrt())
        return cls(target, trained.requires_grad_(), unit, directions)

    def change(self) -> Tensor:
        """The change [d_out, d_in], float32, differentiable in what is trained."""
        change = self.trained * self.unit
        return change if self.directions is None else change @ self.directions.T


def _train(
    parameters: Sequence[_Parameter],
    parts: Sequence[_Part],
    hparams: BreadthFirstHparams,
    progress: Progress | None,
) -> tuple[int, float]:
    """Train the parameters; returns the passes it took, and the mean loss in the last."""
    adam = torch.optim.Adam([parameter.trained for parameter in parameters], lr=hparams.rate)
    sizes = [len(part.problem.edit_groups) for part in parts]
    generator = torch.Generator().manual_seed(hparams.seed)
    mean = math.inf
    for done in range(1, hparams.steps + 1):
        batches = torch.randperm(sum(sizes), generator=generator).split(hparams.batch)
        total = sum(_step(adam, parameters, parts, batch, hparams) for batch in batches)
        mean = total / sum(sizes)
        if progress is not None:
            progress(done, hparams.steps)
        if mean < hparams.stop_loss:
            break
    return done, mean


def _step(
    adam: torch.optim.Adam,
    parameters: Sequence[_Parameter],
    parts: Sequence[_Part],
    batch: Tensor,
    hparams: BreadthFirstHparams,
) -> float:
    """One step for the edits numbered in `batch`, unless they need none; their summed loss."""
    adam.zero_grad()
    sizes = [len(part.problem.edit_groups) for part in parts]
    chosen = torch.zeros(sum(sizes), dtype=torch.bool)
    chosen[batch] = True
    total = 0.0
    for part, mask in zip(parts, chosen.split(sizes), strict=True):
        if bool(mask.any()):
            loss = part.loss(parameters, mask.to(part.problem.owners.device))
            (loss / len(batch)).backward()
            total += float(loss.detach())
    if not math.isfinite(total):
        raise ComputationFailed("fine-tuning diverged: lower the rate")
    if total >= hparams.stop_loss * len(batch):
        adam.step()
    return total


def _text(edit: Edit) -> tuple[str, str, str]:
    return edit.prompt, edit.subject, edit.target_new
