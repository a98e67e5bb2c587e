"""Edits spread over several layers at once: what MEMIT and its relatives share.

Meng et al. 2023, "Mass-editing memory in a transformer" (arXiv 2210.07229), section 4 and
algorithm 1.
"""

from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from weight_patchers.controls import Controls
from weight_patchers.delta import Delta, LowRank
from weight_patchers.edit import require_distinct
from weight_patchers.errors import ComputationFailed
from weight_patchers.job import Job
from weight_patchers.model import hooks
from weight_patchers.model.layers import Projection, layers
from weight_patchers.spreading.aims import (
    Aim,
    Aims,
    Targets,
    arrives_unchanged,
    at_projections,
    common_aims,
    own_aims,
)
from weight_patchers.values.optimisation import Site, TargetValues
from weight_patchers.values.problem import Problem
from weight_patchers.values.workload import (
    Mean,
    Workload,
    compute_z,
    edit_reports,
    keys_and_states,
    plan_workload,
)


def layer_output(job: Job, target: Projection) -> Site:
    """The output of the target's decoder layer, where MEMIT optimises z."""
    return Site(target.layer, (layers(job.model)[target.layer],))


def _equal_parts(left: int) -> float:
    return 1 / left


@dataclass(frozen=True)
class SpreadMethod:
    """One method: what differs between MEMIT and its relatives.

    `solve(job, layer, K)` gives V [d_in, n], float64, for the layer's keys K [d_in, n], and
    numbers to report: the layer's update is W' = W + R V^T for the residuals R [d_out, n].
    `site` says where values are optimised at the last layer; the residual is measured at its last
    module. `share(left)` is the part of the residual that a layer takes when `left` layers are to
    come, itself included. `keep_keys` puts the edits' keys in the delta.

    Where what is added to a projection's output does not arrive unchanged in the residual stream
    (Gemma 2 and 3 norm it, Granite scales it), a residual of the stream cannot be written into a
    projection. There each layer has a value of its own, at its projection's output, which it takes
    whole.
    """

    name: str
    solve: Callable[[Job, int, Tensor], tuple[Tensor, dict[str, float]]]
    site: Callable[[Job, Projection], Site] = layer_output
    share: Callable[[int], float] = _equal_parts
    keep_keys: bool = False

    def compute(self, job: Job) -> Delta:
        """One delta for all edits.

        Values are optimised at the last of the layers in the model as it is or, with
        `base_values`, in the base. Then each layer in ascending order, with those below it written,
        takes its share of the residual there: R = share * (z - h), W' = W + R V^T.
        Raises ConflictingEdits for two edits of one fact.
        """
        require_distinct(job.edits)
        if not job.edits:
            return job.nothing(self.name)
        with job.writable() as (targets, controls):
            with job.base() if job.hparams.base_values else nullcontext():
                work, aims, values = self._values(job, targets, job.hparams.share_subjects)
                aimed = aims(work, values, _mean(job))
            return self._write(job, targets, controls, work, values, aimed)

    def compute_each(self, job: Job) -> list[Delta]:
        """A delta for each edit alone, equal to one call of `compute` per edit up to rounding.

        It is faster, because the values are optimised side by side; where they depend on what is
        live, they are not. The edits may change the same fact.
        """
        deltas: list[Delta] = []
        if not job.edits:
            return deltas
        if job.live and (job.hparams.base_values or job.hparams.live_subjects):
            return [self.compute(replace(job, edits=[edit])) for edit in job.edits]
        with job.writable() as (targets, controls):
            work, aims, values = self._values(job, targets, share_subjects=False)
            for own, own_work, own_values in job.each(work, values):
                with hooks.restored([target.weight for target in targets.values()]):
                    aimed = aims(own_work, own_values, _mean(job))
                    deltas.append(self._write(own, targets, controls, own_work, own_values, aimed))
        return deltas

    def _values(
        self, job: Job, targets: Targets, share_subjects: bool
    ) -> tuple[Workload, Aims, TargetValues]:
        model, hparams = job.model, job.hparams
        others = job.live_about_subjects() if share_subjects and hparams.live_subjects else []
        work = plan_workload(
            model,
            job.tokenizer,
            [*job.edits, *others],
            job.contexts_or_sampled(),
            hparams,
            share_subjects=share_subjects,
            bare_share=hparams.bare_share,
        )
        site = self.site(job, targets[hparams.layers[-1]])
        aims: Aims = partial(common_aims, model, targets, site, self.share, hparams.value_length)
        if not all(arrives_unchanged(model, t, work.problems[0]) for t in targets.values()):
            site = at_projections(site, targets)
            aims = partial(own_aims, model, targets)
        values = compute_z(model, site, work, hparams, job.progress, job.value_cache)
        return work, aims, values

    def _write(
        self,
        job: Job,
        targets: Targets,
        controls: Controls,
        work: Workload,
        values: TargetValues,
        aims: Mapping[int, Aim],
    ) -> Delta:
        """Write the values into the model, where they stay, and report what that does."""
        changes, norms, numerics = self._write_layers(job, targets, work, aims)
        own, keys = len(job.edits), {}
        if self.keep_keys:
            by_layer = keys_and_states(job.model, targets, {}, work.problems, mean=_mean(job))[0]
            keys = {targets[layer].name: _by_edit(work, k, own) for layer, k in by_layer.items()}
        diagnostics = {
            "relative_norm": norms,
            "drift": controls.drift(job.model),
            "layers": numerics,
            "edits": edit_reports(job.model, work, values)[:own],
        }
        return job.delta(self.name, changes, diagnostics, keys)

    def _write_layers(
        self, job: Job, targets: Targets, work: Workload, aims: Mapping[int, Aim]
    ) -> tuple[dict[str, LowRank], dict[str, float], dict[str, Any]]:
        """The changes and relative norms by parameter, and the solutions' numbers by layer."""
        changes, norms, numerics = {}, {}, {}
        for layer, target in targets.items():
            aim = aims[layer]
            by_layer, states = keys_and_states(
                job.model, {layer: target}, {0: aim.module}, work.problems, mean=_mean(job)
            )
            keys = by_layer[layer].flatten(0, 1)
            v, numerics[str(layer)] = self.solve(job, layer, keys.T.double())
            numerics[str(layer)] |= {"value_length": float(aim.value.norm(dim=-1).mean())}
            residual = (aim.value - states[0]).flatten(0, 1).T * aim.share
            v = v.float()
            if not (bool(torch.isfinite(residual).all()) and bool(torch.isfinite(v).all())):
                raise ComputationFailed("the update is not finite: lower the clamp or the step")
            base = target.matrix()
            change = residual @ v.T
            norms[target.name] = float(change.norm() / base.norm())
            target.write(base + change)
            changes[target.name] = LowRank(residual.cpu().contiguous(), v.cpu(), target.transposed)
        return changes, norms, numerics


def _mean(job: Job) -> Mean:
    return Problem.apart if job.hparams.keys == "both" else Problem.average


def _by_edit(work: Workload, keys: Tensor, count: int) -> Tensor:
    """Keys [d_in, n * count] of the first edits that were given, from those of the groups
    [n, groups, d_in]: first one key of each edit, then the next."""
    owner = [group for group, edits in enumerate(work.groups) for _ in edits]
    places = torch.tensor(work.order).argsort()[:count]
    return keys[:, torch.tensor(owner)[places]].flatten(0, 1).T.cpu().contiguous()
