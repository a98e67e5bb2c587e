"""The input of a weight method."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import KW_ONLY, asdict, dataclass, replace
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from weight_patchers.controls import Controls
from weight_patchers.delta import Change, Delta
from weight_patchers.delta_sum import join_neurons, sum_deltas
from weight_patchers.edit import Edit
from weight_patchers.model import hooks
from weight_patchers.model.extra_units import attached
from weight_patchers.model.layers import Projection, projection
from weight_patchers.statistics import Statistics
from weight_patchers.values.contexts import Context, sample_contexts
from weight_patchers.values.memory import sample_memory
from weight_patchers.values.optimisation import TargetValues
from weight_patchers.values.workload import Progress, ValueCache, Workload


@dataclass(frozen=True, eq=False)
class Job:
    """The edits to make, the model to make them in, and how; read by every method.

    `statistics` are those of the base, whose fingerprint the delta gets. The model itself may
    already hold the deltas `live`. `progress(done, of)` counts edits, or steps of fine-tuning.
    """

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    edits: Sequence[Edit]
    hparams: Any
    statistics: Statistics
    _: KW_ONLY
    contexts: Sequence[Context] | None = None
    """What keys are averaged over. By default they are sampled anew, so pass
    `sample_contexts(...)` when editing often."""
    live: Sequence[Delta] = ()
    memory: Tensor | None = None
    """What extra units should not answer to, as `sample_memory` gives it. By default it is sampled
    anew, so pass it when editing often."""
    controls: Sequence[str] | None = None
    """The prompts that drift is measured on; by default those of `weight_patchers.controls`."""
    progress: Progress | None = None
    trained: Any = None
    """The trained editor of a method that has one; by default the shipped one of this base."""
    value_cache: ValueCache | None = None
    """Values of an earlier call with the same model, hyperparameters and contexts, to be used
    again. Afterwards the cache holds only the values of this call."""

    def contexts_or_sampled(self) -> Sequence[Context]:
        """The contexts given, or those that the hyperparameters ask for."""
        if self.contexts is not None:
            return self.contexts
        return sample_contexts(self.model, self.tokenizer, self.hparams)

    def memory_or_sampled(self) -> Tensor:
        """The memory given, or the one that the hyperparameters ask for, sampled from the base."""
        if self.memory is not None:
            return self.memory
        with self.base():
            return sample_memory(self.model, self.tokenizer, self.hparams)

    def live_about_subjects(self) -> list[Edit]:
        """The live edits of other facts about the subjects that are edited; the latest of each."""
        subjects = {edit.subject for edit in self.edits}
        facts = {edit.conflict_key for edit in self.edits}
        live = {edit.conflict_key: edit for delta in self.live for edit in delta.edits}
        return [
            edit for fact, edit in live.items() if edit.subject in subjects and fact not in facts
        ]

    @contextmanager
    def base(self) -> Iterator[None]:
        """Inside, the model holds the base, up to rounding; afterwards what it held, exactly."""
        total = sum_deltas(self.live)
        weights = {name: self.model.get_parameter(name) for name in total}
        # The live units' outputs are taken away again.
        units = {name: replace(n, v=-n.v) for name, n in join_neurons(self.live).items()}
        with hooks.restored(list(weights.values())), attached(self.model, units):
            with torch.no_grad():
                for name, change in total.items():
                    weight = weights[name]
                    weight.copy_(weight.float() - change.total().to(weight.device))
            yield

    @contextmanager
    def writable(self) -> Iterator[tuple[dict[int, Projection], Controls]]:
        """The matrices to write, by layer, and the drift from the model as it is now.

        Inside, the model is frozen and the matrices may be written. Afterwards the model is as
        it was: parameters bit for bit, train/eval modes, requires_grad and hooks.
        """
        targets = {layer: projection(self.model, layer) for layer in self.hparams.layers}
        weights = [target.weight for target in targets.values()]
        with hooks.frozen(self.model), hooks.restored(weights):
            yield targets, Controls.watch(self.model, self.tokenizer, self.controls)

    def each(
        self, work: Workload, values: TargetValues
    ) -> Iterator[tuple["Job", Workload, TargetValues]]:
        """A job for each edit alone, with its part of a workload that groups no edits."""
        sizes = [1] * len(self.edits)
        for edit, own_work, own_values in zip(
            self.edits, work.each(), values.each(sizes), strict=True
        ):
            yield replace(self, edits=[edit]), own_work, own_values

    def delta(
        self,
        method: str,
        changes: Mapping[str, Change],
        diagnostics: Mapping[str, Any],
        keys: Mapping[str, Tensor] | None = None,
    ) -> Delta:
        """The delta of the base that these changes make up."""
        return Delta(
            fingerprint=self.statistics.fingerprint,
            method=method,
            hyperparameters=asdict(self.hparams),
            changes=changes,
            edits=tuple(self.edits),
            diagnostics=diagnostics,
            keys=keys or {},
        )

    def nothing(self, method: str) -> Delta:
        """The delta of no edits."""
        return Delta.nothing(self.statistics.fingerprint, method, asdict(self.hparams))
