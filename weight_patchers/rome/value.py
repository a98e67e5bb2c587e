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

        mean NLL(target | context + prompt) + kl_factor * mean KL(p0 || p)(kept prompts) + decay

    (Meng et al. 2022, eq. 4), where decay is weight_decay * (||delta|| / ||v0||)^2, or
    weight_decay * ||delta|| / ||v0||^2 where the scale is absolute. v0 = W k + b.

    A relative step has length step * ||v0||: MLP outputs differ in norm by orders of magnitude
    between models and layers, and a fixed learning rate would not reach v* where they are large.
    With Adam that is the length of a step in which every coordinate moves by the learning rate.
    After each step ||delta|| is cut to clamp * ||v0||. Stops early at `stop_probability`.
    The parameters must not require gradients. Raises ComputationFailed on values not finite.
    """
    with torch.no_grad():
        v0 = projection.module(k.to(projection.weight.dtype)).float()
        before, kept, old = _measure(model, projection, problem, torch.zeros_like(v0))
        free = kept.argmax(-1) != old
    scale = float(v0.norm())
    if not (math.isfinite(scale) and scale > 0 and bool(torch.isfinite(before))):
        raise ComputationFailed("the model itself gives values that are not finite")
    delta = torch.zeros_like(v0).requires_grad_()
    stepper = _Stepper(delta, scale, hp)
    best, best_nll, taken = torch.zeros_like(v0), before, 0
    for step in range(hp.steps + 1):
        nll, now, _ = _measure(model, projection, problem, delta)
        if not bool(torch.isfinite(nll)):
            raise ComputationFailed("the optimisation of v* diverged: use a smaller step")
        if nll < best_nll:
            best, best_nll, taken = delta.detach().clone(), nll.detach(), step
        if nll.item() <= -math.log(hp.stop_probability) or step == hp.steps:
            break
        loss = nll + hp.kl_factor * _divergence(kept[free], now[free]) + _decay(delta, scale, hp)
        stepper.step(torch.autograd.grad(loss, delta)[0])
    return Value(best, scale, taken, math.exp(-float(before)), math.exp(-float(best_nll)))


def probability(model: PreTrainedModel, problem: Problem) -> float:
    """The target's probability: the geometric mean over its tokens and the contexts."""
    with torch.no_grad():
        logits = model(**problem.batch.arguments()).logits
        return math.exp(-float(_nll(logits, problem)))


def _measure(
    model: PreTrainedModel, projection: Projection, problem: Problem, delta: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """NLL of the target, log-probabilities [places, vocabulary] of what is kept, and the token
    that the model itself puts first after the prompt."""
    with hooks.added(projection.module, problem.subjects, delta):
        logits = model(**problem.batch.arguments()).logits
    kept = logits[problem.kept_rows, problem.kept_columns].float().log_softmax(-1)
    said = logits[problem.target_rows[0], problem.target_columns[0]].argmax()
    return _nll(logits, problem), kept, said


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
