"""T-Patcher (Huang et al. 2023, "Transformer-Patcher: One Mistake worth One Neuron", ICLR).

Each target token that the model gets wrong gets an inner unit of its own in one MLP, most often
the last. The unit is trained to write what makes that token the most probable, to answer to the
MLP's input there, and not to answer to other inputs. Keys, values and the loss are the paper's;
sizes are relative to the model's own, so that one learning rate serves all models.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from weight_patchers.delta import Delta, Neurons
from weight_patchers.edit import require_distinct
from weight_patchers.errors import ComputationFailed
from weight_patchers.fine_tuning.compute import edit_reports
from weight_patchers.job import Job
from weight_patchers.model.extra_units import activations, attached
from weight_patchers.model.mlp import Mlp, mlp
from weight_patchers.t_patcher.hparams import TPatcherHparams
from weight_patchers.t_patcher.losses import activation_loss, first_keys, memory_loss, scores
from weight_patchers.units.part import Part, answers_before, mean_nll

METHOD = "t-patcher"


def compute(job: Job) -> Delta:
    """One delta for all edits: extra units of one MLP, trained together.

    The statistics give the base's fingerprint only. Edits whose target is already told get no
    units. The job's progress counts steps. Raises ConflictingEdits for two edits of one fact, and
    UnsupportedModel when the MLP cannot get more units.
    """
    if not job.edits:
        return job.nothing(METHOD)
    require_distinct(job.edits)
    model, target = job.model, mlp(job.model, job.hparams.layer)
    with job.writable() as (_, controls):
        parts = Part.all_of(job, target)
        problems = [part.problem for part in parts]
        before = answers_before(model, parts)
        units = _Units.at_start(target, parts, job.hparams)
        memory = job.memory_or_sampled()
        steps = _train(job, parts, units, memory) if units.count else 0
        neurons = {target.name: units.neurons()} if units.count else {}
        with attached(model, neurons):
            reports = edit_reports(model, problems, before, steps)
            drift = controls.drift(model)
    diagnostics = {"relative_norm": {}, "drift": drift, "edits": reports}
    return job.delta(METHOD, neurons, diagnostics | units.diagnostics(memory))


@dataclass(frozen=True, eq=False)
class _Units:
    """Units for the wrong tokens: their own inputs `own` [r, d], and what is trained.

    `trained` holds keys [d, r] for inputs of root mean square 1, by part, and the output
    `written` [d, r] and its `gain` [r], relative to `sizes` [r]; `scale` [r] are the root mean
    squares of their inputs.
    """

    target: Mlp
    own: Tensor
    scale: Tensor
    sizes: Tensor
    trained: dict[str, Tensor]

    @classmethod
    def at_start(cls, target: Mlp, parts: Sequence[Part], hp: TPatcherHparams) -> "_Units":
        wrong = [_first_wrong(part, hp.most_units) for part in parts]
        own = torch.cat([part.inputs()[at] for part, at in zip(parts, wrong, strict=True)])
        sizes = torch.cat([part.sizes()[at] for part, at in zip(parts, wrong, strict=True)])
        scale = own.square().mean(-1).sqrt()
        keys = first_keys(own / scale[:, None]).T
        trained = {name: keys.clone() for name in ("gu" if target.gated else "k")}
        if target.biased and not target.gated:
            trained["b"] = torch.zeros_like(sizes)
        generator = torch.Generator().manual_seed(hp.seed)
        written = torch.randn(keys.shape, generator=generator) * hp.spread
        trained |= {"written": written.to(keys), "gain": torch.full_like(sizes, hp.gain)}
        return cls(target, own, scale, sizes, {n: t.requires_grad_() for n, t in trained.items()})

    @property
    def count(self) -> int:
        return len(self.own)

    def parts(self) -> dict[str, Tensor]:
        """The parts of `Neurons`, differentiable in what is trained."""
        parts = {n: t / self.scale for n, t in self.trained.items() if n in ("k", "g", "u")}
        if "b" in self.trained:
            parts["b"] = self.trained["b"]
        parts["v"] = self.trained["written"] * self.trained["gain"] * self.sizes
        return parts

    def neurons(self) -> Neurons:
        return Neurons(**{n: t.detach().cpu().contiguous() for n, t in self.parts().items()})

    def losses(self, memory: Tensor, hp: TPatcherHparams) -> tuple[Tensor, Tensor]:
        """The activation loss and the memory loss."""
        parts = self.parts()
        own = scores(parts, self.own).diagonal()
        other = scores(parts, memory)
        return (
            activation_loss(own, hp.activation_top),
            memory_loss(other, own, hp.margin, hp.memory_top),
        )

    @torch.no_grad()
    def diagnostics(self, memory: Tensor) -> dict[str, Any]:
        """The units' least output for their own inputs, and the largest for other text."""
        if not self.count:
            return {"units": 0}
        own, other = (
            activations(self.parts(), inputs, self.target.activation)
            for inputs in (self.own, memory)
        )
        return {
            "units": self.count,
            "least_activation": float(own.diagonal().min()),
            "largest_memory_activation": float(other.abs().max()),
        }


def _first_wrong(part: Part, most: int) -> Tensor:
    """The places of each edit's first wrong target tokens, at most so many of an edit."""
    with torch.no_grad():
        wrong = part.base_logits().argmax(-1) != part.problem.targets
    chosen = [
        (wrong & (part.problem.target_edits == edit)).nonzero()[:most, 0]
        for edit in range(len(part))
    ]
    return torch.cat(chosen)


def _train(job: Job, parts: Sequence[Part], units: _Units, memory: Tensor) -> int:
    """Train the units; returns the steps it took.

    It ends when every target token is the most probable and the memory loss has stopped falling.
    """
    hp, edits = job.hparams, sum(map(len, parts))
    trained = list(units.trained.values())
    adam = torch.optim.Adam(trained, lr=hp.rate, weight_decay=hp.weight_decay)
    last = math.inf
    for step in range(1, hp.steps + 1):
        adam.zero_grad()
        told = True
        for part in parts:
            logits = part.logits(units.parts())
            told &= bool((logits.argmax(-1) == part.problem.targets).all())
            (mean_nll(logits, part.problem, hp.smoothing).sum() / edits).backward()
        activation, other = units.losses(memory, hp)
        (hp.activation_weight * activation + hp.memory_weight * other).backward()
        if step >= hp.first_check and (step - hp.first_check) % hp.check == 0:
            now = float(other.detach())
            if told and now >= last * (1 - hp.fall):
                return step - 1
            last = now
        norm = torch.nn.utils.clip_grad_norm_(trained, hp.clip)
        if not bool(torch.isfinite(norm)):
            raise ComputationFailed("the training of the units diverged: lower the rate")
        adam.step()
        if job.progress is not None:
            job.progress(step, hp.steps)
    return int(hp.steps)
