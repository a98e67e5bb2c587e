"""Fine-tuning of one MLP output projection, the baseline that every method is compared with.

FT-L (Zhu et al. 2020, arXiv 2012.00363, as Meng et al. 2022 use it) bounds how far each weight
may move; FT-M (Zhang et al. 2024, arXiv 2401.01286) does not. The loss of both is the language
model's on the target's tokens after the prompt. (A published FT-L asks for all of them at the
prompt's last token, which cannot teach a target of several tokens.)
"""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from weight_patchers.delta import Delta, Dense
from weight_patchers.edit import Edit, require_distinct
from weight_patchers.errors import ComputationFailed
from weight_patchers.fine_tuning.hparams import FineTuningHparams
from weight_patchers.job import Job
from weight_patchers.model.layers import Projection
from weight_patchers.model.suffix import Suffix, read
from weight_patchers.values.contexts import plain_contexts
from weight_patchers.values.optimisation import target_nll, target_outcome
from weight_patchers.values.passes import RowSizes, pass_tokens, split_by_size
from weight_patchers.values.problem import Problem, build_problem
from weight_patchers.values.workload import Progress


def compute(method: str, job: Job) -> Delta:
    """One dense delta for all edits.

    The statistics give the base's fingerprint only. The change is trained in float32 beside the
    weights, with Adam on the mean over the edits of the target's mean NLL. The job's progress
    counts steps. Raises ConflictingEdits for two edits of one fact.
    """
    if not job.edits:
        return job.nothing(method)
    require_distinct(job.edits)
    model, hparams = job.model, job.hparams
    with job.writable() as (targets, controls):
        (target,) = targets.values()
        problems = problems_of(job, job.edits)
        before = torch.cat([target_outcome(model, problem)[0] for problem in problems])
        change, steps = _train(model, target, problems, hparams, job.progress)
        base = target.matrix()
        target.write(base + change)
        reports = edit_reports(model, problems, before, steps)
        drift = controls.drift(model)
    diagnostics = {
        "relative_norm": {target.name: float(change.norm() / base.norm())},
        "drift": drift,
        "edits": reports,
    }
    return job.delta(method, {target.name: Dense(change.cpu(), target.transposed)}, diagnostics)


def problems_of(job: Job, edits: Sequence[Edit]) -> list[Problem]:
    """The edits as rows of tokens, in parts that fit a pass each."""
    contexts = job.contexts
    if contexts is None:
        contexts = plain_contexts(job.tokenizer, chat=job.hparams.chat, end=job.hparams.end)
    sizes = RowSizes.of(job.tokenizer, contexts)
    groups = [[edit] for edit in edits]
    return [
        build_problem(job.tokenizer, part, contexts, [[]] * len(part), job.model.device)
        for part in split_by_size(groups, sizes, pass_tokens(job.model))
    ]


def edit_reports(
    model: PreTrainedModel, problems: Sequence[Problem], before: Tensor, steps: int
) -> list[dict[str, float | int]]:
    """For each edit the target's probability `before` and now, and the answer now."""
    outcomes = [target_outcome(model, problem) for problem in problems]
    after, greedy = (torch.cat(list(column)) for column in zip(*outcomes, strict=True))
    return [
        {
            "steps": steps,
            "probability_before": p_before,
            "probability_after": p_after,
            "greedy_after": share,
        }
        for p_before, p_after, share in zip(
            before.tolist(), after.tolist(), greedy.tolist(), strict=True
        )
    ]


def _train(
    model: PreTrainedModel,
    target: Projection,
    problems: Sequence[Problem],
    hparams: FineTuningHparams,
    progress: Progress | None,
) -> tuple[Tensor, int]:
    """The change [d_out, d_in], float32, and the steps it took."""
    shape = (target.d_out, target.d_in)
    change = torch.zeros(shape, device=target.weight.device).requires_grad_()
    adam = torch.optim.Adam([change], lr=hparams.rate)
    suffixes = [suffix_of(model, target.layer, problem) for problem in problems]
    count = sum(len(problem.edit_groups) for problem in problems)
    for step in range(hparams.steps):
        adam.zero_grad()
        total = 0.0
        for suffix, problem in zip(suffixes, problems, strict=True):
            with shifted(target.module, change):
                logits = suffix.logits(problem.batch, problem.target_rows, problem.target_columns)
            loss = target_nll(logits, problem).sum() / count
            loss.backward()
            total += float(loss.detach())
        if not math.isfinite(total):
            raise ComputationFailed("fine-tuning diverged: lower the rate")
        if total < hparams.stop_loss:
            return change.detach(), step
        if hparams.weight_decay:
            (hparams.weight_decay * change.square().mean()).backward()
        adam.step()
        if hparams.norm_bound is not None:
            with torch.no_grad():
                change.clamp_(-hparams.norm_bound, hparams.norm_bound)
        if progress is not None:
            progress(step + 1, hparams.steps)
    return change.detach(), hparams.steps


def suffix_of(model: PreTrainedModel, layer: int, problem: Problem) -> Suffix:
    """What the model is at `layer` for the problem's rows."""
    return read(model, layer, problem.batch, problem.target_rows, problem.target_columns, {})[0]


@contextmanager
def shifted(module: nn.Module, change: Tensor) -> Iterator[None]:
    """Inside, the linear map has `change` added to its matrix."""

    def add(_module: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> Tensor:
        return output + (args[0].float() @ change.T).to(output.dtype)

    handle = module.register_forward_hook(add)
    try:
        yield
    finally:
        handle.remove()
