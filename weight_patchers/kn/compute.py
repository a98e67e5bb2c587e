"""KN: a fact is changed in the few neurons that hold it (Dai et al. 2022, arXiv 2104.08696).

The neurons are found by their attribution to the old answer (`attribution`, `selection`). Each
neuron's value, its column c of the MLP's output projection, then loses the old answer and gains
the new one (section 4.3 and the released code):

    c' = c - lambda_1 (|c| / |e_old|) e_old + lambda_2 (|c| / |e_new|) e_new

with e the embeddings of the answers' first tokens, and |c| that of the base.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from weight_patchers.controls import Controls
from weight_patchers.delta import Delta, LowRank
from weight_patchers.edit import require_distinct
from weight_patchers.errors import ComputationFailed, UnsupportedModel
from weight_patchers.fine_tuning.compute import edit_reports, problems_of
from weight_patchers.job import Job
from weight_patchers.kn.facts import Replaced, replaced_tokens
from weight_patchers.kn.hparams import KnHparams
from weight_patchers.kn.search import Held, Neuron, Search
from weight_patchers.model import hooks
from weight_patchers.model.layers import Projection
from weight_patchers.values.optimisation import target_outcome

METHOD = "kn"


def compute(job: Job) -> Delta:
    """One delta of all edits: for each changed neuron a column of rank one.

    Neurons are sought, and their columns measured, in the base, so that an edit does not depend on
    what is live. An edit that has no neuron of its own changes nothing, and its report says so.
    Raises ConflictingEdits for two edits of one fact.
    """
    if not job.edits:
        return job.nothing(METHOD)
    require_distinct(job.edits)
    with hooks.frozen(job.model):
        return _computed(job, _search(job))


def compute_each(job: Job) -> list[Delta]:
    """A delta for each edit alone, equal to one call of `compute` per edit.

    It is faster, because the facts that edits are held against are looked at once.
    """
    if not job.edits:
        return []
    deltas = []
    job = replace(job, contexts=job.contexts_or_sampled())
    with hooks.frozen(job.model):
        search = _search(job)
        for done, edit in enumerate(job.edits, 1):
            deltas.append(_computed(replace(job, edits=[edit], progress=None), search))
            if job.progress is not None:
                job.progress(done, len(job.edits))
    return deltas


def column_change(columns: Tensor, old: Tensor, new: Tensor, subtract: float, add: float) -> Tensor:
    """c' - c for `columns` c [d_out, n] and the answers' embeddings [d_out], of any length."""
    direction = add * new / new.norm() - subtract * old / old.norm()
    change: Tensor = columns.norm(dim=0) * direction[:, None]
    return change


def _search(job: Job) -> Search:
    return Search(job.model, job.tokenizer, job.hparams)


@dataclass(frozen=True)
class _Change:
    """The neurons that are changed at one position of an edit's answer."""

    replaced: Replaced
    neurons: Sequence[Neuron]


def _computed(job: Job, search: Search) -> Delta:
    job = replace(job, contexts=job.contexts_or_sampled())
    model, controls = job.model, Controls.watch(job.model, job.tokenizer, job.controls)
    problems = problems_of(job, job.edits)
    before = torch.cat([target_outcome(model, problem)[0] for problem in problems])
    with job.base():
        found = _changes(job, search)
        changes = {t.name: c for t in search.targets if (c := _columns(job, t, found)) is not None}
        written = [target for target in search.targets if target.name in changes]
        norms = {t.name: float(changes[t.name].dense().norm() / t.matrix().norm()) for t in written}
    with hooks.restored([target.weight for target in written]):
        for target in written:
            update = changes[target.name].dense().to(target.weight.device)
            target.write(target.matrix() + update)
        reports = edit_reports(model, problems, before, job.hparams.steps)
        drift = controls.drift(model)
    named = [report | {"neurons": _named(own)} for report, own in zip(reports, found, strict=True)]
    diagnostics = {"relative_norm": norms, "drift": drift, "edits": named}
    return job.delta(METHOD, changes, diagnostics)


def _changes(job: Job, search: Search) -> list[list[_Change]]:
    """For each edit the neurons that it alone has."""
    hparams: KnHparams = job.hparams
    held: list[list[tuple[Replaced, Held]]] = []
    for done, edit in enumerate(job.edits, 1):
        positions = replaced_tokens(
            job.model, job.tokenizer, edit, job.contexts or (), hparams.tokens == "all"
        )
        held.append([(position, search.held(position.asked)) for position in positions])
        if job.progress is not None:
            job.progress(done, len(job.edits))
    masks = [torch.stack([own.own for _, own in each]).any(0) for each in held if each]
    owners = [number for number, each in enumerate(held) if each]
    found = []
    for number, (edit, each) in enumerate(zip(job.edits, held, strict=True)):
        others = [mask for owner, mask in zip(owners, masks, strict=True) if owner != number]
        apart = [(p, search.without_common(own, edit.subject, others)) for p, own in each]
        found.append([_Change(position, search.neurons(own)) for position, own in apart])
    return found


def _columns(job: Job, target: Projection, found: Sequence[Sequence[_Change]]) -> LowRank | None:
    """The change of one layer, if it has neurons that are changed; the model holds the base."""
    hparams: KnHparams = job.hparams
    matrix, columns, places = target.matrix(), [], []
    for change in (change for edit in found for change in edit):
        own = [neuron.index for neuron in change.neurons if neuron.layer == target.layer]
        if own:
            old, new = (
                _embedding(job.model, token, hparams.embedding, target.d_out)
                for token in (change.replaced.old, change.replaced.new)
            )
            columns.append(column_change(matrix[:, own], old, new, hparams.subtract, hparams.add))
            places += own
    if not places:
        return None
    u = torch.cat(columns, dim=1).cpu()
    if not bool(torch.isfinite(u).all()):
        raise ComputationFailed("the change is not finite: an embedding of an answer is zero")
    v = torch.zeros(target.d_in, len(places))
    v[places, range(len(places))] = 1.0
    return LowRank(u, v, target.transposed)


def _embedding(model: PreTrainedModel, token: int, kind: str, width: int) -> Tensor:
    """A token's embedding, float32 [width]."""
    table: Any = model.get_input_embeddings()
    if kind == "output":
        table = model.get_output_embeddings()
    row: Tensor = table.weight.detach()[token].float()
    if len(row) != width:
        raise UnsupportedModel(
            f"the {kind} embeddings have {len(row)} entries and the residual stream {width}: an "
            "answer cannot be added to a neuron's value"
        )
    return row


def _named(changes: Sequence[_Change]) -> list[dict[str, Any]]:
    """The neurons of an edit as JSON values."""
    return [asdict(neuron) for change in changes for neuron in change.neurons]
