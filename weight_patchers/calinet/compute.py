"""CaliNET (Dong et al. 2022, "Calibrating Factual Knowledge in Pretrained Language Models",
arXiv 2210.03329).

One MLP gets some inner units, called slots, and only they are trained, on all facts together. What
they write is 0 at the start, so that untrained slots change nothing. Beside the paper's loss, what
they write at other text is kept small: without it they write everywhere.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from weight_patchers.calinet.hparams import CalinetHparams
from weight_patchers.delta import Delta, Neurons
from weight_patchers.edit import Edit, require_distinct
from weight_patchers.errors import ComputationFailed
from weight_patchers.fine_tuning.compute import edit_reports
from weight_patchers.job import Job
from weight_patchers.model.extra_units import activations, attached
from weight_patchers.model.mlp import Mlp, mlp
from weight_patchers.units.part import Part, answers_before, mean_nll

METHOD = "calinet"

_MEMORY = 2048
"""Inputs of other text that one step looks at."""


def compute(job: Job) -> Delta:
    """One delta for all edits: extra units of one MLP.

    In each pass the edits are shuffled and taken `batch` at a time; Adam lowers the mean over the
    batch of the target's NLL, in all contexts, plus `keep` times the mean square of what the slots
    write at other text, relative to the residual stream. Training ends after a pass whose mean loss
    is below `stop_loss`, or after `steps` passes.

    The delta depends on which edits there are, not on their order. The statistics give the base's
    fingerprint only. The job's progress counts passes. Raises ConflictingEdits for two edits of one
    fact, and UnsupportedModel when the MLP cannot get more units.
    """
    if not job.edits:
        return job.nothing(METHOD)
    require_distinct(job.edits)
    order = sorted(range(len(job.edits)), key=lambda i: _text(job.edits[i]))
    contexts = job.contexts_or_sampled()
    ordered = replace(job, edits=[job.edits[i] for i in order], contexts=contexts)
    model, target = job.model, mlp(job.model, job.hparams.layer)
    with job.writable() as (_, controls):
        parts = Part.all_of(ordered, target)
        problems = [part.problem for part in parts]
        before = answers_before(model, parts)
        memory = job.memory_or_sampled()
        slots = _Slots.at_start(target, parts, memory, job.hparams)
        passes, loss = _train(job, parts, slots, memory)
        neurons = {target.name: slots.neurons()}
        with attached(model, neurons):
            reports = edit_reports(model, problems, before, passes)
            drift = controls.drift(model)
    places = sorted(range(len(order)), key=order.__getitem__)
    diagnostics = {
        "relative_norm": {},
        "drift": drift,
        "loss": loss,
        "edits": [reports[place] for place in places],
    }
    return job.delta(METHOD, neurons, diagnostics)


@dataclass(frozen=True, eq=False)
class _Slots:
    """What is trained: keys [d, r] for inputs of root mean square 1, and outputs [d, r].

    `scale` is the root mean square of inputs, `size` that of the residual stream.
    """

    target: Mlp
    scale: float
    size: float
    trained: dict[str, Tensor]

    @classmethod
    def at_start(
        cls, target: Mlp, parts: Sequence[Part], memory: Tensor, hp: CalinetHparams
    ) -> "_Slots":
        generator = torch.Generator().manual_seed(hp.seed)
        shape = (target.output.d_out, hp.slots)
        names = ("g", "u") if target.gated else ("k",)
        trained = {n: torch.randn(shape, generator=generator) / shape[0] ** 0.5 for n in names}
        trained["v"] = torch.zeros(shape)
        size = torch.cat([part.sizes() for part in parts]).square().mean().sqrt()
        on_device = {name: tensor.to(memory.device) for name, tensor in trained.items()}
        scale = float(memory.square().mean().sqrt())
        return cls(
            target, scale, float(size), {n: t.requires_grad_() for n, t in on_device.items()}
        )

    def parts(self) -> dict[str, Tensor]:
        """The parts of `Neurons`, differentiable in what is trained."""
        keys = {name: t / self.scale for name, t in self.trained.items() if name != "v"}
        return keys | {"v": self.trained["v"] * self.size}

    def neurons(self) -> Neurons:
        return Neurons(**{n: t.detach().cpu().contiguous() for n, t in self.parts().items()})

    def written(self, memory: Tensor) -> Tensor:
        """Mean square of what the slots write at the inputs `memory` [n, d], relative to `size`."""
        units = activations(self.parts(), memory, self.target.activation)
        return (units @ self.trained["v"].T).square().mean()


def _train(job: Job, parts: Sequence[Part], slots: _Slots, memory: Tensor) -> tuple[int, float]:
    """Train the slots; returns the passes it took, and the mean loss in the last."""
    hp, count = job.hparams, sum(map(len, parts))
    adam = torch.optim.Adam(slots.trained.values(), lr=hp.rate)
    generator = torch.Generator().manual_seed(hp.seed)
    mean = math.inf
    for done in range(1, hp.steps + 1):
        batches = torch.randperm(count, generator=generator).split(hp.batch)
        total = 0.0
        for batch in batches:
            some = memory[torch.randperm(len(memory), generator=generator)[:_MEMORY]]
            total += _step(adam, parts, slots, some, batch, hp.keep)
        mean = total / count
        if not math.isfinite(mean):
            raise ComputationFailed("the training of the slots diverged: lower the rate")
        if job.progress is not None:
            job.progress(done, hp.steps)
        if mean < hp.stop_loss:
            break
    return done, mean


def _step(
    adam: torch.optim.Adam,
    parts: Sequence[Part],
    slots: _Slots,
    memory: Tensor,
    batch: Tensor,
    keep: float,
) -> float:
    """One step for the edits numbered in `batch`; their summed NLL before it."""
    adam.zero_grad()
    sizes = [len(part) for part in parts]
    chosen = torch.zeros(sum(sizes), dtype=torch.bool)
    chosen[batch] = True
    total = 0.0
    for part, mask in zip(parts, chosen.split(sizes), strict=True):
        if bool(mask.any()):
            own = part.only(mask.to(part.problem.owners.device))
            loss = mean_nll(own.logits(slots.parts()), own.problem).sum()
            (loss / len(batch)).backward()
            total += float(loss.detach())
    if keep:
        (keep * slots.written(memory)).backward()
    adam.step()
    return total


def _text(edit: Edit) -> tuple[str, str, str]:
    return edit.prompt, edit.subject, edit.target_new
