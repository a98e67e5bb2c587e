"""Edits spread over several layers at once: what MEMIT and its relatives share."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any, Protocol

import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from weight_patchers.controls import Controls
from weight_patchers.delta import Delta, LowRank
from weight_patchers.edit import Edit, require_distinct
from weight_patchers.errors import ComputationFailed
from weight_patchers.model import hooks
from weight_patchers.model.layers import Projection, projection
from weight_patchers.spreading.hparams import SpreadHparams
from weight_patchers.statistics import Statistics
from weight_patchers.values.contexts import Context
from weight_patchers.values.optimisation import Site, Values
from weight_patchers.values.workload import (
    Known,
    Progress,
    Workload,
    find_values,
    observe,
    plan,
    report,
    surround,
)

# V [d_in, n], float64, for the keys K [d_in, n] of a layer, and numbers to report: the layer's
# update is W' = W + R V^T for the residuals R [d_out, n].
Columns = Callable[[int, Tensor], tuple[Tensor, dict[str, float]]]


@dataclass(frozen=True, eq=False)
class Spread:
    """What one method does in its own way.

    `site` says where values are optimised at the last layer; what is missing there is measured
    at its last module. `share(left)` is the part of it that a layer takes when `left` layers
    are to come, itself included. `keep_keys` puts the edits' keys in the delta.
    """

    method: str
    site: Callable[[Projection], Site]
    columns: Columns
    share: Callable[[int], float] = lambda left: 1 / left
    keep_keys: bool = False


class Recipe(Protocol):
    """What a method makes of its hyperparameters and statistics, for these edits of a model that
    holds the deltas `live`."""

    def __call__(
        self,
        model: PreTrainedModel,
        edits: Sequence[Edit],
        hparams: Any,
        statistics: Statistics,
        live: Sequence[Delta],
    ) -> Spread: ...


def spread(
    recipe: Recipe,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    edits: Sequence[Edit],
    hparams: SpreadHparams,
    statistics: Statistics,
    *,
    contexts: Sequence[Context] | None = None,
    live: Sequence[Delta] = (),
    controls: Sequence[str] | None = None,
    progress: Progress | None = None,
    known: Known | None = None,
) -> Delta:
    """One delta for all edits (Meng et al. 2023, "Mass-editing memory in a transformer", §4).

    Values are optimised at the last of the layers in the model as it is. Then each layer in
    ascending order, with those below it written, takes its share of what is still missing there:
    R = share * (z - h), W' = W + R V^T. Arguments and errors are those of `rome.compute`; two
    edits of one fact raise ConflictingEdits too. `known` are values of an earlier call with the
    same model, hyperparameters and contexts, say with an edit more; then those of this one.
    """
    require_distinct(edits)
    how = recipe(model, edits, hparams, statistics, live)
    if not edits:
        return Delta.nothing(statistics.fingerprint, how.method, asdict(hparams))
    with _bench(model, tokenizer, hparams, statistics.fingerprint, controls) as bench:
        work, values = bench.values(how, edits, contexts, hparams.share_subjects, progress, known)
        return bench.delta(how, edits, work, values)


def spread_each(
    recipe: Recipe,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    edits: Sequence[Edit],
    hparams: SpreadHparams,
    statistics: Statistics,
    *,
    contexts: Sequence[Context] | None = None,
    live: Sequence[Delta] = (),
    controls: Sequence[str] | None = None,
    progress: Progress | None = None,
) -> list[Delta]:
    """A delta for each edit alone, as so many calls of `spread` give, up to rounding.

    Faster: the values are optimised side by side, and the edits may well change the same fact.
    """
    found: list[Delta] = []
    if not edits:
        return found
    with _bench(model, tokenizer, hparams, statistics.fingerprint, controls) as bench:
        first = recipe(model, edits[:1], hparams, statistics, live)
        work, values = bench.values(first, edits, contexts, False, progress)
        for edit, alone, own in zip(edits, work.each(), values.each([1] * len(edits)), strict=True):
            how = recipe(model, [edit], hparams, statistics, live)
            with hooks.restored(bench.weights):
                found.append(bench.delta(how, [edit], alone, own))
    return found


@dataclass(frozen=True, eq=False)
class _Bench:
    """A model that is frozen, and restored when the bench is left."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    hparams: SpreadHparams
    fingerprint: str
    targets: dict[int, Projection]
    watched: Controls

    @property
    def weights(self) -> list[Tensor]:
        return [target.weight for target in self.targets.values()]

    def values(
        self,
        how: Spread,
        edits: Sequence[Edit],
        contexts: Sequence[Context] | None,
        share_subjects: bool,
        progress: Progress | None,
        known: Known | None = None,
    ) -> tuple[Workload, Values]:
        model, hparams = self.model, self.hparams
        work = plan(
            model,
            self.tokenizer,
            edits,
            surround(model, self.tokenizer, hparams) if contexts is None else contexts,
            hparams,
            share_subjects=share_subjects,
            bare_share=hparams.bare_share,
        )
        return work, find_values(model, self._site(how), work, hparams, progress, known)

    def delta(self, how: Spread, edits: Sequence[Edit], work: Workload, values: Values) -> Delta:
        """Write the values, and say what that does; it stays written."""
        model, targets = self.model, self.targets
        changes, norms, numerics = _write(model, targets, self._site(how), work, values, how)
        keys = observe(model, targets, {}, work.problems)[0] if how.keep_keys else {}
        return Delta(
            fingerprint=self.fingerprint,
            method=how.method,
            hyperparameters=asdict(self.hparams),
            changes=changes,
            edits=tuple(edits),
            diagnostics={
                "relative_norm": norms,
                "drift": self.watched.drift(model),
                "layers": numerics,
                "edits": report(model, work, values),
            },
            keys={targets[layer].name: _by_edit(work, found) for layer, found in keys.items()},
        )

    def _site(self, how: Spread) -> Site:
        return how.site(self.targets[self.hparams.layers[-1]])


@contextmanager
def _bench(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    hparams: SpreadHparams,
    fingerprint: str,
    controls: Sequence[str] | None,
) -> Iterator[_Bench]:
    targets = {layer: projection(model, layer) for layer in hparams.layers}
    weights = [target.weight for target in targets.values()]
    with hooks.frozen(model), hooks.restored(weights):
        watched = Controls.watch(model, tokenizer, controls)
        yield _Bench(model, tokenizer, hparams, fingerprint, targets, watched)


def _write(
    model: PreTrainedModel,
    targets: dict[int, Projection],
    site: Site,
    work: Workload,
    values: Values,
    how: Spread,
) -> tuple[dict[str, LowRank], dict[str, float], dict[str, Any]]:
    """Write layer after layer; the changes and relative norms by name, numerics by layer."""
    changes, norms, numerics = {}, {}, {}
    goal = None
    for number, (layer, target) in enumerate(targets.items()):
        keys, states = observe(model, {layer: target}, {0: site.modules[-1]}, work.problems)
        if goal is None:
            goal = states[0] + values.delta[-1]
        v, numerics[str(layer)] = how.columns(layer, keys[layer].T.double())
        u = (goal - states[0]).T * how.share(len(targets) - number)
        v = v.float()
        if not (bool(torch.isfinite(u).all()) and bool(torch.isfinite(v).all())):
            raise ComputationFailed("the update is not finite: lower the clamp or the step")
        base = target.matrix()
        change = u @ v.T
        norms[target.name] = float(change.norm() / base.norm())
        target.write(base + change)
        changes[target.name] = LowRank(u.cpu().contiguous(), v.cpu(), target.transposed)
    return changes, norms, numerics


def _by_edit(work: Workload, keys: Tensor) -> Tensor:
    """Keys [d_in, edits] in the order the edits were given, from those of the groups."""
    owner = [group for group, edits in enumerate(work.groups) for _ in edits]
    places = torch.tensor(work.order).argsort()
    return keys[torch.tensor(owner)[places]].T.cpu().contiguous()
