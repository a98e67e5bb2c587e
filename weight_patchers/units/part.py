"""Edits as rows of tokens that run through the model from the layer with the extra units on."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import PreTrainedModel

from weight_patchers.errors import ComputationFailed
from weight_patchers.fine_tuning.compute import problems_of, suffix_of
from weight_patchers.job import Job
from weight_patchers.model import hooks
from weight_patchers.model.extra_units import added
from weight_patchers.model.mlp import Mlp
from weight_patchers.model.suffix import Suffix
from weight_patchers.values.optimisation import target_outcome
from weight_patchers.values.problem import Problem


@dataclass(frozen=True, eq=False)
class Part:
    """Some edits of a job, as many as fit a pass; `suffix` begins at the MLP's layer."""

    target: Mlp
    problem: Problem
    suffix: Suffix

    @classmethod
    def all_of(cls, job: Job, target: Mlp) -> list["Part"]:
        """The job's edits, in order."""
        return [
            cls(target, problem, suffix_of(job.model, target.layer, problem))
            for problem in problems_of(job, job.edits)
        ]

    def __len__(self) -> int:
        return len(self.problem.edit_groups)

    def only(self, edits: Tensor) -> "Part":
        """The part of the edits that the mask marks."""
        problem, rows = self.problem.only(edits)
        suffix = self.suffix.only(rows, problem.batch.ids.shape[1])
        return Part(self.target, problem, suffix)

    def logits(self, units: Mapping[str, Tensor]) -> Tensor:
        """Logits [targets, vocabulary] at the target's tokens, with units of these parts."""
        with added(self.target, units):
            return self.base_logits()

    def base_logits(self) -> Tensor:
        """The same without units."""
        problem = self.problem
        return self.suffix.logits(problem.batch, problem.target_rows, problem.target_columns)

    def inputs(self) -> Tensor:
        """The MLP's input [targets, d], float32, where the target's tokens are predicted."""
        problem, first = self.problem, {0: self.target.first}
        with torch.no_grad(), hooks.inputs(first, len(problem.batch.ids)) as captured:
            self.suffix.model(**problem.batch.arguments())
        return captured[0][problem.target_rows, problem.target_columns].float()

    def sizes(self) -> Tensor:
        """The residual stream's root mean square [targets] there, at the layer's input."""
        hidden = self.suffix.hidden[self.problem.target_rows, self.problem.target_columns]
        return hidden.float().square().mean(-1).sqrt()


def mean_nll(logits: Tensor, problem: Problem, smoothing: float = 0.0) -> Tensor:
    """The mean cross-entropy of each edit's target tokens, [edits], with label smoothing."""
    each = F.cross_entropy(
        logits.float(), problem.targets, reduction="none", label_smoothing=smoothing
    )
    total = torch.zeros(len(problem.edit_groups), device=each.device)
    count = total.index_add(0, problem.target_edits, torch.ones_like(each))
    return total.index_add(0, problem.target_edits, each) / count


def answers_before(model: PreTrainedModel, parts: Sequence[Part]) -> Tensor:
    """The targets' probabilities [edits] without the units, as `target_outcome` has them.

    Raises ComputationFailed when the model itself gives values that are not finite.
    """
    before = torch.cat([target_outcome(model, part.problem)[0] for part in parts])
    if not bool(torch.isfinite(before).all()):
        raise ComputationFailed("the model itself gives values that are not finite")
    return before
