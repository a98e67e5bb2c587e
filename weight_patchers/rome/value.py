"""v*: what the MLP must add at the subject's last token for the model to say the target."""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import PreTrainedModel

from weight_patchers import hooks
from weight_patchers.errors import ComputationFailed
from weight_patchers.families import Projection
from weight_patchers.rome.hparams import RomeHparams
from weight_patchers.rome.problem import Problem


@dataclass(frozen=True, eq=False)
class Value:
    """`delta` = v* - v0, float32 [d_out]; `scale` = ||v0||; the target's probabilities."""

    delta: Tensor
    scale: float
    steps: int
    probability_before: float
    probability_reached: float


def key(model: PreTrainedModel, projection: Projection, problem: Problem) -> Tensor:
    """k*: the input of the projection at the subject's last token, float32 [d_in].

    It is averaged over the contexts (Meng et al. 2022, eq. 3).
    """
    rows = len(problem.batch.ids)
    with torch.no_grad(), hooks.inputs({0: projection.module}, rows) as captured:
        model(**problem.batch.arguments())
    contexts = torch.arange(problem.contexts, device=problem.subjects.device)
    return captured[0][contexts, problem.subjects[: problem.contexts]].float().mean(0)


def optimise(
    model: PreTrainedModel, projection: Projection, problem: Problem, k: Tensor, hp: RomeHparams
) -> Value:
    """Minimise over delta, added to the projection's output at the subject's last token,

        mean NLL(target | context + prompt) + kl_factor * mean KL(p0 || p)(kept places) + decay

    (Meng et al. 2022, eq. 4), where decay is weight_decay * (||delta|| / ||v0||)^2, or
    weight_decay * ||delta|| / ||v0||^2 where the scale is absolute. v0 = W k + b.

    A relative step has length step * ||v0||: MLP outputs differ in norm by orders of magnitude
    between models and layers, and a fixed learning rate would not reach v* where they are large.
    With Adam that is the length of a step in which every coordinate moves by the learning rate;
    with `gradient` each step has it exactly and stays in the span of the gradients, which moves
    fewer directions that other facts about the subject are read from.

    Kept places where the model puts the old answer first are left free: sampled texts about the
    subject may well state the very fact that changes.
    After each step ||delta|| is cut to clamp * ||v0||. Stops early at `stop_probability`, and
    returns the delta of the lowest NLL. The parameters must not require gradients.
    Raises ComputationFailed on values that are not finite.
    """
    with torch.no_grad():
        v0 = projection.module(k.to(projection.weight.dtype)).float()
        logits = _logits(model, projection, problem, torch.zeros_like(v0))
        before, kept = _nll(logits, problem), _kept(logits, problem)
        free = kept.argmax(-1) == logits[problem.target_rows[0], problem.target_columns[0]].argmax()
    scale = float(v0.norm())
    if not (math.isfinite(scale) and scale > 0 and bool(torch.isfinite(before))):
        raise ComputationFailed("the model itself gives values that are not finite")
    delta = torch.zeros_like(v0).requires_grad_()
    stepper = _Stepper(delta, scale, hp)
    best, lowest, taken = torch.zeros_like(v0), before, 0
    for step in range(hp.steps + 1):
        logits = _logits(model, projection, problem, delta)
        nll = _nll(logits, problem)
        if not bool(torch.isfinite(nll)):
            raise ComputationFailed("the optimisation of v* diverged: use a smaller step")
        if nll < lowest:
            best, lowest, taken = delta.detach().clone(), nll.detach(), step
        if nll.item() <= -math.log(hp.stop_probability) or step == hp.steps:
            break
        drift = _divergence(kept[~free], _kept(logits, problem)[~free])
        loss = nll + hp.kl_factor * drift + _decay(delta, scale, hp)
        stepper.step(torch.autograd.grad(loss, delta)[0])
    return Value(best, scale, taken, math.exp(-float(before)), math.exp(-float(lowest)))


def outcome(model: PreTrainedModel, problem: Problem) -> dict[str, float]:
    """How the model as it is answers.

    `probability_after` is the target's, the geometric mean over its tokens and the contexts;
    `greedy_after` the share of contexts after which greedy decoding gives the target.
    """
    with torch.no_grad():
        logits = model(**problem.batch.arguments()).logits
    chosen = logits[problem.target_rows, problem.target_columns]
    right = (chosen.argmax(-1) == problem.targets).reshape(problem.contexts, -1).all(-1)
    return {
        "probability_after": math.exp(-float(_nll(logits, problem))),
        "greedy_after": float(right.float().mean()),
    }


def _logits(
    model: PreTrainedModel, projection: Projection, problem: Problem, delta: Tensor
) -> Tensor:
    with hooks.added(projection.module, problem.subjects, delta):
        logits: Tensor = model(**problem.batch.arguments()).logits
    return logits


def _kept(logits: Tensor, problem: Problem) -> Tensor:
    """Log-probabilities [places, vocabulary] of what is to be kept."""
    return logits[problem.kept_rows, problem.kept_columns].float().log_softmax(-1)


def _nll(logits: Tensor, problem: Problem) -> Tensor:
    """Every context holds the same number of target tokens, so the mean over all is fair."""
    chosen = logits[problem.target_rows, problem.target_columns].float()
    return F.cross_entropy(chosen, problem.targets)


def _divergence(before: Tensor, now: Tensor) -> Tensor:
    if not len(before):
        return torch.zeros((), device=now.device)
    return F.kl_div(now, before, log_target=True, reduction="batchmean")


def _decay(delta: Tensor, scale: float, hp: RomeHparams) -> Tensor:
    if hp.scale == "relative":
        return torch.sum((delta / scale) ** 2) * hp.weight_decay
    norm: Tensor = torch.linalg.vector_norm(delta)
    return norm * (hp.weight_decay / scale**2)


class _Stepper:
    """Moves delta in place, keeping it within the clamp."""

    def __init__(self, delta: Tensor, scale: float, hp: RomeHparams) -> None:
        self._delta = delta
        self._radius = math.inf if hp.clamp is None else hp.clamp * scale
        self._length = hp.step * scale if hp.scale == "relative" else hp.step * len(delta) ** 0.5
        rate = self._length / len(delta) ** 0.5
        self._adam = torch.optim.Adam([delta], lr=rate) if hp.optimizer == "adam" else None

    def step(self, gradient: Tensor) -> None:
        with torch.no_grad():
            if self._adam is None:
                self._delta.sub_(self._length * F.normalize(gradient, dim=0))
            else:
                self._delta.grad = gradient
                self._adam.step()
            self._delta.mul_(min(1.0, self._radius / max(float(self._delta.norm()), 1e-12)))
