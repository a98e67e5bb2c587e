"""Makes a trial's edits and has them judged; values that trials share are optimised once."""

import time
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from weight_patchers.delta import Delta
from weight_patchers.edit import Edit
from weight_patchers.errors import PatcherError
from weight_patchers.hyperparameters import build
from weight_patchers.methods import METHODS, Patcher
from weight_patchers.model.layers import projection
from weight_patchers.spreading.aims import arrives_unchanged
from weight_patchers.statistics import Statistics
from weight_patchers.tuning.cases import Case
from weight_patchers.tuning.journal import Journal, digest
from weight_patchers.tuning.judging import Judge, Scores
from weight_patchers.tuning.space import Settings
from weight_patchers.values.contexts import Context, sample_contexts
from weight_patchers.values.hparams import ContextHparams
from weight_patchers.values.shared_values import SharedValues
from weight_patchers.values.workload import plan_workload

SINGLE, BATCH = "single", "batch"
"""The ways edits are made: each alone on the base, or all at once."""


@dataclass(frozen=True)
class Trial:
    """Settings that were tried on cases, by `regime`: scores, or the reason why there are none."""

    settings: Settings
    scores: dict[str, Scores]
    failure: str | None = None

    @property
    def value(self) -> float:
        """The mean of the regimes' values."""
        values = [scores.value for scores in self.scores.values()]
        return sum(values) / len(values) if values else -10.0

    @property
    def told(self) -> float:
        """The smaller share told."""
        return min((scores.told for scores in self.scores.values()), default=0.0)


@dataclass(eq=False)
class Bench:
    """Tries settings on one model. Trials are in the journal and are not made twice."""

    judge: Judge
    statistics: Statistics
    journal: Journal
    _contexts: dict[tuple[Any, ...], tuple[Context, ...]] = field(default_factory=dict)
    _values: SharedValues = field(default_factory=SharedValues)

    def tried(
        self, method: str, settings: Settings, cases: Sequence[Case], regimes: Sequence[str]
    ) -> Trial:
        """The trial of these settings; `cases` are all made in one batch in that regime."""
        scores: dict[str, Scores] = {}
        for regime in regimes:
            key = digest([method, settings, [asdict(case) for case in cases], regime])
            found = self.journal.get(key)
            if found is None:
                found = self._try(METHODS[method], settings, cases, regime)
                self.journal.add(key, {"method": method, "settings": dict(settings), **found})
            if found["failure"] is not None:
                return Trial(settings, {}, found["failure"])
            scores[regime] = Scores(**found["scores"])
        return Trial(settings, scores)

    def _try(
        self, method: Patcher, settings: Settings, cases: Sequence[Case], regime: str
    ) -> dict[str, Any]:
        start = time.monotonic()
        try:
            groups, seconds = self._groups(method, settings, cases, regime)
            scores = self.judge.scores(groups, seconds / len(cases))
            found: dict[str, Any] = {"scores": asdict(scores), "failure": None}
        except (PatcherError, RuntimeError) as error:
            # Settings far from good ones may overflow in many places.
            found = {"scores": None, "failure": str(error)}
        return {"regime": regime, "took": time.monotonic() - start, **found}

    def _groups(
        self, method: Patcher, settings: Settings, cases: Sequence[Case], regime: str
    ) -> tuple[list[tuple[Delta, Sequence[Case]]], float]:
        """The deltas, each with its cases, and the seconds that all take without shared values."""
        start, saved = time.monotonic(), self._values.saved
        hparams = build(method.hparams, settings)
        edits = [case.edit for case in cases]
        with self._shared(method, hparams, edits) as shared:
            arguments = (self.judge.model, self.judge.tokenizer)
            options = {"contexts": self._contexts_of(hparams), **shared}
            if regime == BATCH:
                delta = method.compute(*arguments, edits, hparams, self.statistics, **options)
                groups = [(delta, cases)]
            elif method.compute_each is not None:
                deltas = method.compute_each(*arguments, edits, hparams, self.statistics, **options)
                groups = [(delta, [case]) for delta, case in zip(deltas, cases, strict=True)]
            else:
                groups = [
                    (
                        method.compute(
                            *arguments, [case.edit], hparams, self.statistics, **options
                        ),
                        [case],
                    )
                    for case in cases
                ]
        return groups, time.monotonic() - start + self._values.saved - saved

    def _shared(
        self, method: Patcher, hparams: Any, edits: Sequence[Edit]
    ) -> AbstractContextManager[dict[str, Any]]:
        if not method.values:
            return nullcontext({})
        # Where they arrive unchanged they are sought at the last layer, whichever others are
        # written.
        last = self._arrive_unchanged(hparams, edits[0])
        layers = hparams.layers[-1:] if last else hparams.layers
        return self._values.arguments((hparams.value_conditions, layers), edits)

    def _arrive_unchanged(self, hparams: Any, edit: Edit) -> bool:
        """Whether values reach the residual stream unchanged from all layers that are written."""
        plain = replace(hparams, kept_samples=0, chat=False)
        model, tokenizer = self.judge.model, self.judge.tokenizer
        (problem,) = plan_workload(model, tokenizer, [edit], [Context()], plain).problems
        targets = (projection(model, layer) for layer in hparams.layers)
        return all(arrives_unchanged(model, target, problem) for target in targets)

    def _contexts_of(self, hparams: Any) -> tuple[Context, ...] | None:
        if not isinstance(hparams, ContextHparams):
            return None
        sampled = (hparams.seed, hparams.context_count, hparams.context_lengths)
        key = (*sampled, hparams.chat, hparams.end)
        if key not in self._contexts:
            self._contexts[key] = sample_contexts(self.judge.model, self.judge.tokenizer, hparams)
        return self._contexts[key]
