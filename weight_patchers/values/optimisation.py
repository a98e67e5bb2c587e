"""Optimises v*: the value at the subject's last token that makes the model say the target."""

import math
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import PreTrainedModel

from weight_patchers.errors import ComputationFailed
from weight_patchers.model import hooks
from weight_patchers.model.suffix import Suffix, logits_at, read
from weight_patchers.values.hparams import ValueHparams
from weight_patchers.values.lanes import Lane, lanes
from weight_patchers.values.problem import Problem


@dataclass(frozen=True, eq=False)
class Site:
    """Where a value is added: to the outputs of these modules, of decoder layer `layer` or above.

    `paces` are their step lengths, relative to the hyperparameters' step; by default 1.
    """

    layer: int
    modules: tuple[nn.Module, ...]
    paces: tuple[float, ...] = ()


@dataclass(frozen=True, eq=False)
class TargetValues:
    """The optimisation's result for each group, and for each of their edits.

    `delta` [sites, groups, d] = v* - v0, float32; `scale` [sites, groups] = ||v0||; `steps`
    [groups]; the target's probabilities `before` and `reached` [edits], each the geometric mean
    over tokens and contexts.
    """

    delta: Tensor
    scale: Tensor
    steps: Tensor
    before: Tensor
    reached: Tensor

    def each(self, sizes: Sequence[int]) -> "Iterator[TargetValues]":
        """The values of each group in turn; `sizes` are the groups' numbers of edits."""
        for delta, scale, *others in zip(
            self.delta.split(1, dim=1),
            self.scale.split(1, dim=1),
            self.steps.split(1),
            self.before.split(list(sizes)),
            self.reached.split(list(sizes)),
            strict=True,
        ):
            yield TargetValues(delta, scale, *others)

    @classmethod
    def joined(cls, parts: "Sequence[TargetValues]") -> "TargetValues":
        """The values of all groups of the parts, in order."""
        return cls(
            delta=torch.cat([part.delta for part in parts], dim=1),
            scale=torch.cat([part.scale for part in parts], dim=1),
            steps=torch.cat([part.steps for part in parts]),
            before=torch.cat([part.before for part in parts]),
            reached=torch.cat([part.reached for part in parts]),
        )


def optimise_delta(
    model: PreTrainedModel, site: Site, problem: Problem, hp: ValueHparams
) -> TargetValues:
    """Minimise, for each group on its own, over delta, added at the subject's last token,

        mean NLL(target | context + prompt) + kl_factor * mean KL(p0 || p)(kept places) + decay

    (Meng et al. 2022, "Locating and editing factual associations in GPT", eq. 4), where decay is
    weight_decay * (||delta|| / ||v0||)^2, or weight_decay * ||delta|| / ||v0||^2 where the scale
    is absolute; v0 is the module's output there, averaged over the contexts. Groups are computed
    side by side and independently: together with other groups a group gets the same values up to
    rounding.

    A relative step has length step * ||v0||: outputs differ in norm by orders of magnitude
    between models and layers, and a fixed learning rate would not reach v* where they are large.
    With Adam this is the length of a step in which every coordinate moves by the learning rate;
    with `gradient` each step has exactly this length and stays in the span of the gradients, so
    it changes fewer directions that other facts about the subject depend on.

    Kept places where the old answer is the most probable are left free: sampled texts about the
    subject may state the fact that changes.
    After each step ||delta|| is cut to clamp * ||v0||. A group stops early when each of its
    edits has `stop_probability`, or with `stop_first` once all their target tokens were the most
    probable in every context that many times in a row (ENCORE, Gupta et al. 2025, arXiv
    2502.01636). It gets the delta of its lowest NLL. The parameters must not require gradients.
    Raises ComputationFailed on values that are not finite.
    """
    run = _Run.begin(model, site, problem, hp)
    for step in range(hp.steps + 1):
        if run.advance(step, last=step == hp.steps):
            break
    return run.result()


def target_outcome(model: PreTrainedModel, problem: Problem) -> tuple[Tensor, Tensor]:
    """The model's current answers: for each edit, on the CPU,

    the target's probability, the geometric mean over its tokens and the contexts, and the share
    of contexts after which greedy decoding gives the target. Its end does not count.
    """
    own = ~problem.ends
    rows, edits, targets = (
        of[own] for of in (problem.target_rows, problem.target_edits, problem.targets)
    )
    with torch.no_grad():
        logits = logits_at(model, problem.batch, rows, problem.target_columns[own])
    wrong = (logits.argmax(-1) != targets).float()
    right = torch.zeros(len(problem.batch.ids), device=wrong.device)
    right = (right.index_add_(0, rows, wrong) == 0).float()
    nll = F.cross_entropy(logits.float(), targets, reduction="none")
    return _mean(nll, edits).neg().exp().cpu(), _mean(right[rows], edits).cpu()


class _Run:
    """The groups that are still being optimised, and the results of all groups so far."""

    def __init__(
        self, site: Site, problem: Problem, hp: ValueHparams, suffix: Suffix, v0: Tensor
    ) -> None:
        self._site, self._problem, self._hp, self._suffix = site, problem, hp, suffix
        self._lanes = lanes(suffix, problem.batch, *_places(problem))
        groups = problem.groups
        device = v0.device
        self._scale = v0.norm(dim=-1)
        self._active = torch.arange(groups, device=device)
        self._edits = torch.arange(len(problem.edit_groups), device=device)
        self._delta = torch.zeros_like(v0)
        self._stepper = _Stepper(self._scale, v0.shape[-1], hp, site.paces)
        self._kept = self._free = torch.empty(0, device=device)
        self._best = torch.zeros_like(v0)
        self._lowest = torch.full((groups,), math.inf, device=device)
        self._streak = torch.zeros(groups, dtype=torch.int64, device=device)
        self._steps = torch.zeros(groups, dtype=torch.int64)
        self._before = torch.zeros(len(self._edits))
        self._reached = torch.zeros(len(self._edits))

    @classmethod
    def begin(
        cls, model: PreTrainedModel, site: Site, problem: Problem, hp: ValueHparams
    ) -> "_Run":
        rows, columns = _places(problem)
        modules = dict(enumerate(site.modules))
        subjects = problem.subjects
        suffix, logits, outputs = read(
            model, site.layer, problem.batch, rows, columns, modules, subjects
        )
        index = torch.arange(len(subjects), device=subjects.device)
        v0 = [problem.average(outputs[i][index, subjects]) for i in modules]
        # A value added at the subject affects no token before it.
        run = cls(site, problem.from_subjects(), hp, suffix, torch.stack(v0))
        run._remember(logits)
        return run

    def _remember(self, logits: Tensor) -> None:
        """Store the model's answers before any value is added."""
        split = len(self._problem.targets)
        nll = target_nll(logits[:split], self._problem)
        if not (bool(torch.isfinite(nll).all()) and bool((self._scale > 0).all())):
            raise ComputationFailed("the model itself gives values that are not finite")
        self._before = nll.neg().exp().cpu()
        self._kept = logits[split:].float().log_softmax(-1)
        self._free = _old_answers(logits[:split], self._kept, self._problem)

    def advance(self, step: int, last: bool) -> bool:
        """Evaluate the groups, drop the finished ones and step the others; True at the end."""
        delta = self._delta.detach().requires_grad_()
        logits = self._logits(delta)
        split = len(self._problem.targets)
        nll = target_nll(logits[:split], self._problem)
        group_nll = _mean(nll, self._problem.edit_groups)
        if not bool(torch.isfinite(nll).all()):
            raise ComputationFailed("the optimisation of v* diverged: use a smaller step")
        self._note(step, nll.detach(), group_nll.detach())
        worst = torch.full_like(group_nll, -math.inf).scatter_reduce(
            0, self._problem.edit_groups, nll.detach(), "amax"
        )
        going = worst > -math.log(self._hp.stop_probability)
        if self._hp.stop_first is not None:
            first = _always_first(logits[:split].detach(), self._problem)
            self._streak = (self._streak + 1) * first
            going &= self._streak < self._hp.stop_first
        if last or not bool(going.any()):
            return True
        drift = self._divergence(logits[split:])
        loss = group_nll + self._hp.kl_factor * drift + self._decay(delta)
        # Finished groups need no gradient.
        (gradient,) = torch.autograd.grad(loss[going].sum(), delta)
        if not bool(going.all()):
            gradient = gradient[:, going]
            self._drop(going)
        self._delta = self._stepper.step(self._delta, gradient)
        return False

    def result(self) -> TargetValues:
        return TargetValues(self._best, self._scale, self._steps, self._before, self._reached)

    def _logits(self, delta: Tensor) -> Tensor:
        order = torch.cat([lane.places for lane in self._lanes]).argsort()
        return torch.cat([self._lane_logits(delta, lane) for lane in self._lanes])[order]

    def _lane_logits(self, delta: Tensor, lane: Lane) -> Tensor:
        owners, subjects = self._problem.owners[lane.rows], self._problem.subjects[lane.rows]
        with ExitStack() as undo:
            for module, values in zip(self._site.modules, delta, strict=True):
                undo.enter_context(hooks.added(module, subjects, values[owners]))
            return lane.logits()

    def _note(self, step: int, nll: Tensor, group_nll: Tensor) -> None:
        better = group_nll < self._lowest[self._active]
        groups = self._active[better]
        self._best[:, groups] = self._delta[:, better]
        self._lowest[groups] = group_nll[better]
        self._steps[groups.cpu()] = step
        edits = better[self._problem.edit_groups]
        self._reached[self._edits[edits].cpu()] = nll[edits].neg().exp().cpu()

    def _divergence(self, logits: Tensor) -> Tensor:
        """Mean KL [groups] over the kept places that are not free."""
        now = logits.float().log_softmax(-1)
        each = F.kl_div(now, self._kept, log_target=True, reduction="none").sum(-1)
        owners = self._problem.owners[self._problem.kept_rows]
        return _mean(each[~self._free], owners[~self._free], self._problem.groups)

    def _decay(self, delta: Tensor) -> Tensor:
        scale = self._scale[:, self._active]
        norm: Tensor = torch.linalg.vector_norm(delta, dim=-1)
        relative = self._hp.scale == "relative"
        size: Tensor = (norm / scale) ** 2 if relative else norm / scale**2
        return size.sum(0) * self._hp.weight_decay

    def _drop(self, going: Tensor) -> None:
        owners = self._problem.owners[self._problem.kept_rows]
        kept = going[owners]
        self._kept, self._free = self._kept[kept], self._free[kept]
        self._edits = self._edits[going[self._problem.edit_groups]]
        self._problem, rows = self._problem.only(going)
        self._suffix = self._suffix.only(rows, self._problem.batch.ids.shape[1])
        self._lanes = lanes(self._suffix, self._problem.batch, *_places(self._problem))
        self._active = self._active[going]
        self._delta = self._delta[:, going]
        self._streak = self._streak[going]
        self._stepper.drop(going)


class _Stepper:
    """Moves the deltas, keeping each within the clamp."""

    def __init__(
        self, scale: Tensor, width: int, hp: ValueHparams, paces: tuple[float, ...]
    ) -> None:
        self._radius = scale * (math.inf if hp.clamp is None else hp.clamp)
        unit = scale if hp.scale == "relative" else torch.full_like(scale, width**0.5)
        pace = torch.tensor(paces or [1.0] * len(scale), device=scale.device)
        self._length = hp.step * unit * pace[:, None]
        self._width = width
        self._adam = hp.optimizer == "adam"
        self._first = self._second = torch.zeros(*scale.shape, width, device=scale.device)
        self._taken = 0

    def step(self, delta: Tensor, gradient: Tensor) -> Tensor:
        self._taken += 1
        length = self._length[..., None]
        if self._adam:
            # Kingma & Ba 2015, algorithm 1, with their defaults.
            self._first = 0.9 * self._first + 0.1 * gradient
            self._second = 0.999 * self._second + 0.001 * gradient**2
            first = self._first / (1 - 0.9**self._taken)
            second = self._second / (1 - 0.999**self._taken)
            delta = delta - length / self._width**0.5 * first / (second.sqrt() + 1e-8)
        else:
            delta = delta - length * F.normalize(gradient, dim=-1)
        norm = delta.norm(dim=-1).clamp_min(1e-12)
        cut: Tensor = delta * (self._radius / norm).clamp_max(1.0)[..., None]
        return cut

    def drop(self, going: Tensor) -> None:
        self._radius, self._length = self._radius[:, going], self._length[:, going]
        self._first, self._second = self._first[:, going], self._second[:, going]


def _places(problem: Problem) -> tuple[Tensor, Tensor]:
    """The places that need logits: the targets, then the kept places."""
    return (
        torch.cat([problem.target_rows, problem.kept_rows]),
        torch.cat([problem.target_columns, problem.kept_columns]),
    )


def target_nll(logits: Tensor, problem: Problem) -> Tensor:
    """Mean over the tokens in all contexts of each edit, [edits], with the target's end.

    Every context holds the same tokens of the target, so the mean over all is fair.
    """
    each = F.cross_entropy(logits.float(), problem.targets, reduction="none")
    return _mean(each, problem.target_edits)


def _always_first(logits: Tensor, problem: Problem) -> Tensor:
    """Groups all of whose target tokens are the most probable ones, in every context."""
    wrong = logits.argmax(-1) != problem.targets
    groups = problem.edit_groups[problem.target_edits]
    number = torch.zeros(problem.groups, dtype=torch.int64, device=wrong.device)
    first: Tensor = number.index_add_(0, groups, wrong.long()) == 0
    return first


def _old_answers(logits: Tensor, kept: Tensor, problem: Problem) -> Tensor:
    """Kept places [n] whose most probable token is also that of an edit of the group."""
    first = torch.zeros(problem.groups, logits.shape[-1], dtype=torch.bool, device=logits.device)
    edits = problem.target_edits
    begins = torch.cat([torch.ones_like(edits[:1]), edits[1:] - edits[:-1]]) != 0
    first[problem.edit_groups[edits[begins]], logits[begins].argmax(-1)] = True
    old: Tensor = first[problem.owners[problem.kept_rows], kept.argmax(-1)]
    return old


def _mean(values: Tensor, groups: Tensor, count: int | None = None) -> Tensor:
    """Mean of `values` [n] by group, [count]; 0 for an empty group."""
    count = int(groups.max()) + 1 if count is None else count
    total = torch.zeros(count, device=values.device).index_add(0, groups, values)
    number = torch.zeros(count, device=values.device).index_add(0, groups, torch.ones_like(values))
    return total / number.clamp_min(1)
