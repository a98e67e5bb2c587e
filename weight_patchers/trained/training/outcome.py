"""How edited models answer the questions of a step or a validation."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import PreTrainedModel

from weight_patchers.model.layers import Projection
from weight_patchers.model.suffix import logits_at
from weight_patchers.trained.changes import Changes, applied
from weight_patchers.trained.training.examples import Questions


@dataclass(frozen=True, eq=False)
class Outcome:
    """`nll`: mean over the targets' tokens; `kl`: mean KL(base || edited) where the base is kept,
    in nats. Both are differentiable in the changes. `right` [rows] says whether every token of a
    row's answer, or what the base says there, is the most probable one."""

    nll: Tensor
    kl: Tensor
    right: Tensor


@dataclass(frozen=True)
class Validation:
    """Shares of the rows that are answered as they should be, and the losses.

    `told`: the edits' own prompts; `reworded`: their rephrasings; `kept`: other questions, at which
    every predicted token is the base's.
    """

    step: int
    loss: float
    nll: float
    kl: float
    told: float
    reworded: float
    kept: float


def outcome_of(
    model: PreTrainedModel,
    targets: Mapping[int, Projection],
    changes: Changes,
    questions: Questions,
    smoothing: float = 0.0,
) -> Outcome:
    """Ask the model the questions about each edit with this edit's change in effect."""
    batch, rows, columns = questions.only_kept()
    with torch.no_grad():
        before = logits_at(model, batch, rows, columns).float().log_softmax(-1)
    with applied(targets, changes, questions.owners):
        logits = logits_at(model, questions.batch, questions.rows, questions.columns).float()
    told, kept = ~questions.kept, questions.kept
    nll = F.cross_entropy(logits[told], questions.tokens[told], label_smoothing=smoothing)
    now = logits[kept].log_softmax(-1)
    kl = F.kl_div(now, before, log_target=True, reduction="none").sum(-1).mean()
    wanted = questions.tokens.clone()
    wanted[kept] = before.argmax(-1)
    wrong = (logits.argmax(-1) != wanted).float()
    count = torch.zeros(len(questions.owners), device=wrong.device)
    return Outcome(nll, kl, count.index_add_(0, questions.rows, wrong) == 0)
