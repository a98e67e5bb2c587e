"""Weight methods: deltas computed by the editor process and merged into the running engine."""

import logging
import tempfile
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Protocol, cast

from vllm_edit.domain.edit import UNFINISHED, Edit, EditRequest, Status
from vllm_edit.domain.errors import ComputeFailed, InvalidEdit, TargetNotReached, Unavailable
from vllm_edit.domain.method import EditsByVariant, MethodChange
from vllm_edit.domain.neuron import Neuron
from vllm_edit.editor.client import EditorClient
from vllm_edit.editor.messages import RequestedEdit
from vllm_edit.engine.adapter_loader import Variants
from vllm_edit.engine.metrics import COMPUTING
from vllm_edit.vllm_interface.engine import PauseMode
from vllm_edit.weights import drift_metrics as drift
from vllm_edit.weights.delta_store import DeltaKey, DeltaStore
from weight_patchers import Delta, PatcherError
from weight_patchers import Edit as Patch
from weight_patchers.edit import require_distinct
from weight_patchers.errors import GovernorRefused, WrongBase
from weight_patchers.governor import GOVERNOR
from weight_patchers.methods import METHODS

logger = logging.getLogger(__name__)

LEAST_GREEDY = 0.5
"""Share of contexts in which the edited copy must answer with the target."""

UNREFUSED = {"norm_refuse": None, "drift_refuse": None}
"""Bounds under which the governor warns only."""

_LIVE_SET_METHODS = frozenset(name for name, method in METHODS.items() if method.live_set)

Groups = Mapping[DeltaKey, Sequence[Edit]]


class Served(Protocol):
    """What the engine serves; `ServedVariants` says what each does."""

    async def serve(
        self, variants: Variants, weight_version: str, pause_mode: PauseMode | None = None
    ) -> None: ...

    async def drop(self, variant: str) -> None: ...

    async def close(self) -> None: ...


class WeightMethod:
    """Keeps what the engine serves as each variant equal to base plus its edits' deltas.

    The active edits of a batch have one delta, any other edit has its own; it is computed on top
    of the deltas that are live then, and stays as it is when one of those leaves. All live edits
    of a method that trains its live set have one delta in each variant. The governor
    refuses new edits only: what was acknowledged comes back, whatever its bounds are now.
    ``hyperparameters`` replace values of the methods' own and the governor's, by name.
    ``public`` says whether everybody may see a variant's figures. ``scratch`` is the editor's
    socket folder, removed by ``close``. ``missing`` says why the checkpoint cannot be read, if so:
    then there are no weight edits.
    """

    names = frozenset(METHODS)
    batched = frozenset(name for name, method in METHODS.items() if method.batch)
    queued = True
    asked = names
    must_tell = names

    def __init__(
        self,
        store: DeltaStore,
        editor: EditorClient,
        served: Served,
        hyperparameters: Mapping[str, Mapping[str, Any]],
        eager: bool,
        public: Callable[[str], bool],
        scratch: "tempfile.TemporaryDirectory[str]",
        missing: Unavailable | None = None,
    ) -> None:
        self._missing = missing
        self._store = store
        self._editor = editor
        self._served = served
        self._hyperparameters = hyperparameters
        self._eager = eager
        self._public = public
        self._scratch = scratch
        self._views: EditsByVariant = {}
        self._live: Mapping[DeltaKey, Delta] = {}
        self._warnings: Mapping[str, Sequence[str]] = {}
        self._drifts: Mapping[str, float | None] = {}
        self._neurons: Mapping[str, Sequence[Neuron]] = {}
        self._places: Mapping[str, frozenset[str]] = {}
        self._renewed: list[str] = []

    def labels(self, variant: str) -> Sequence[str]:
        return sorted({edit.request.method for edit in self._views.get(variant, ())})

    def check(self, requests: Sequence[EditRequest]) -> None:
        if requests and self._missing is not None:
            raise self._missing
        try:
            require_distinct([_patch(request) for request in requests])
        except PatcherError as error:
            raise InvalidEdit(str(error), code=error.code) from error

    def fact(self, request: EditRequest) -> Hashable:
        return _patch(request).conflict_key

    def warnings(self, edit_id: str) -> Sequence[str]:
        return self._warnings.get(edit_id, ())

    def drift(self, edit_id: str) -> float | None:
        return self._drifts.get(edit_id)

    def neurons(self, edit_id: str) -> Sequence[Neuron]:
        return self._neurons.get(edit_id, ())

    def places(self, edit_id: str) -> frozenset[str]:
        return self._places.get(edit_id, frozenset())

    def take_renewed(self) -> Sequence[str]:
        renewed, self._renewed = self._renewed, []
        return renewed

    async def prepare(self) -> None:
        if self._eager and self._missing is None:
            await self._editor.start(
                {name: self._hyperparameters.get(name, {}) for name in self.names}
            )

    @property
    def edits_by_variant(self) -> EditsByVariant:
        return self._views

    def serves(self, edit_id: str) -> bool:
        return edit_id in self._places

    async def tidy(self, edits: Sequence[Edit]) -> None:
        await self._store.keep_only({delta_group(edit) for edit in edits})

    async def compute(self, change: MethodChange) -> Mapping[DeltaKey, Delta]:
        """The deltas that the change needs and that are not live."""
        if change.coming and self._missing is not None:
            raise self._missing
        new = {edit.id for edit in change.coming if edit.status in UNFINISHED}
        live = self._live
        computed: dict[DeltaKey, Delta] = {}
        with self._store.in_use():
            for groups in self._edits_after(change).values():
                on_top_of = [key for key in groups if key in live or key in computed]
                for key in groups:
                    if key not in live and key not in computed:
                        is_new = not new.isdisjoint(key.edit_ids)
                        computed[key] = await self._load_or_compute(
                            key, groups[key], on_top_of, is_new
                        )
                        on_top_of.append(key)
        return computed

    def ready(self, change: MethodChange, computed: Mapping[DeltaKey, Delta]) -> bool:
        return all(
            key in self._live or key in computed
            for groups in self._edits_after(change).values()
            for key in groups
        )

    async def apply(
        self, change: MethodChange, computed: Mapping[DeltaKey, Delta], revision: int
    ) -> None:
        known = {**computed, **self._live}
        views = {variant: group_by_delta(edits) for variant, edits in self._views.items()}
        views |= self._edits_after(change)
        wanted = {variant: [known[key] for key in groups] for variant, groups in views.items()}
        mode = cast("PauseMode | None", change.pause_mode)
        await self._served.serve(wanted, str(revision), mode)
        self._set_live(views, known)

    async def drop(self, variant: str) -> None:
        views = {v: group_by_delta(edits) for v, edits in self._views.items() if v != variant}
        await self._served.drop(variant)
        self._set_live(views, self._live)
        drift.remove(variant)

    async def forget(self, edits: Sequence[Edit]) -> None:
        self._store.remove_ended([edit.id for edit in edits])

    async def close(self) -> None:
        await self._served.close()
        await self._editor.close()
        self._scratch.cleanup()

    def _set_live(self, views: Mapping[str, Groups], known: Mapping[DeltaKey, Delta]) -> None:
        live = {key: known[key] for groups in views.values() for key in groups}
        # What a live set was before would be trained again if it were needed.
        self._store.remove_unread(
            key for key in self._live.keys() - live.keys() if key.group in _LIVE_SET_METHODS
        )
        self._views = {v: [e for g in groups.values() for e in g] for v, groups in views.items()}
        self._live = live
        self._warnings = {i: _warnings(delta) for key, delta in live.items() for i in key.edit_ids}
        self._places = {i: frozenset(d.changes) for key, d in live.items() for i in key.edit_ids}
        self._drifts = {i: drift.drift_of(d) for key, d in live.items() for i in key.edit_ids}
        self._neurons = {i: n for key, d in live.items() for i, n in _neurons(key, d)}
        drift.publish(
            {v: [live[key] for key in groups] for v, groups in views.items() if self._public(v)}
        )

    def _edits_after(self, change: MethodChange) -> Mapping[str, Groups]:
        """What is live in the variants after the change."""
        leaving = {edit.id for edit in change.leaving}
        return {
            variant: group_by_delta(
                [e for e in self._views.get(variant, ()) if e.id not in leaving] + [*change.coming]
            )
            for variant in change.variants
        }

    def _bounds(self, refuse: bool) -> Mapping[str, Any]:
        bounds = self._hyperparameters.get(GOVERNOR, {})
        return bounds if refuse else {**bounds, **UNREFUSED}

    async def _load_or_compute(
        self, key: DeltaKey, edits: Sequence[Edit], live: Sequence[DeltaKey], is_new: bool
    ) -> Delta:
        delta = await self._load(key, is_new)
        if delta is None:
            try:
                delta = await self._compute(key, edits, live, self._bounds(refuse=is_new))
            except ComputeFailed as error:
                if error.code == GovernorRefused.code:
                    drift.ALARMS.labels("refused").inc()
                error.reasons = error.reasons or dict.fromkeys(key.edit_ids, error.message)
                raise
        try:
            _require_reached(edits, delta.diagnostics)
        except TargetNotReached as error:
            # An edit that leaves the others of a live set must not be kept by one of them.
            if is_new or not _trains_live_set(edits[0]):
                self._store.remove(key)
                raise
            logger.warning("%s: %s", ", ".join(error.reasons), error.message)
        return delta

    async def _load(self, key: DeltaKey, is_new: bool) -> Delta | None:
        """The stored delta; raises ComputeFailed for one of an acknowledged edit of another base.

        Computed again for the base served now, it might change what nobody looked at.
        """
        try:
            return await self._store.load(key)
        except WrongBase as error:
            if is_new:
                return None
            reason = (
                "It was computed for another base model than the one that is served. Serve that "
                "model again, or take the edit back and post it again for this one."
            )
            reasons = dict.fromkeys(key.edit_ids, reason)
            raise ComputeFailed(reason, code=error.code, reasons=reasons) from error

    async def _compute(
        self,
        key: DeltaKey,
        edits: Sequence[Edit],
        live: Sequence[DeltaKey],
        bounds: Mapping[str, Any],
    ) -> Delta:
        """The delta of edits on top of the live ones, written to its file."""
        method = edits[0].request.method
        computed = await self._editor.compute(
            [_requested(edit) for edit in edits],
            method,
            self._store.path(key),
            live=[self._store.path(other) for other in live],
            hyperparameters=self._hyperparameters.get(method, {}),
            bounds=bounds,
        )
        self._renewed += key.edit_ids
        COMPUTING.labels(method).observe(computed.seconds)
        logger.info("%s was computed in %.2f s.", key.group, computed.seconds)
        delta = await self._store.load_new(key)
        if warnings := _warnings(delta):
            drift.ALARMS.labels("warned").inc()
            logger.warning("%s: %s.", key.group, "; ".join(warnings))
        return delta


def group_by_delta(edits: Iterable[Edit]) -> Groups:
    """The edits by the delta that serves them, the oldest first."""
    groups: dict[str, list[Edit]] = {}
    for edit in sorted(edits, key=lambda edit: edit.proposed):
        groups.setdefault(delta_group(edit), []).append(edit)
    return {DeltaKey(name, tuple(e.id for e in group)): group for name, group in groups.items()}


def active_delta_keys(edits: Iterable[Edit]) -> list[DeltaKey]:
    """The deltas of the weight edits among these that are active, the oldest first."""
    active = (edit for edit in edits if edit.status is Status.ACTIVE)
    return [*group_by_delta(edit for edit in active if edit.request.method in WeightMethod.names)]


def _trains_live_set(edit: Edit) -> bool:
    return edit.request.method in _LIVE_SET_METHODS


def delta_group(edit: Edit) -> str:
    """Equal for edits of a variant that have one delta."""
    return edit.request.method if _trains_live_set(edit) else edit.group


def _patch(request: EditRequest) -> Patch:
    return Patch(request.prompt, request.subject, request.target_new, request.ground_truth)


def _requested(edit: Edit) -> RequestedEdit:
    request = edit.request
    return RequestedEdit(
        edit.id, request.prompt, request.subject, request.target_new, request.ground_truth
    )


def _neurons(key: DeltaKey, delta: Delta) -> Iterator[tuple[str, Sequence[Neuron]]]:
    """For each edit of a delta the neurons that its method names."""
    for edit_id, report in zip(key.edit_ids, delta.diagnostics.get("edits", ()), strict=False):
        yield edit_id, [Neuron(**neuron) for neuron in report.get("neurons", ())]


def _warnings(delta: Delta) -> Sequence[str]:
    """The governor's, when the delta was computed; none in files from before there was one."""
    warnings: Sequence[str] = delta.diagnostics.get(GOVERNOR, {}).get("warnings", ())
    return warnings


def _require_reached(edits: Sequence[Edit], diagnostics: Mapping[str, Any]) -> None:
    """Raise TargetNotReached if the edited copy of the model does not say what it should.

    Edits that are kept whatever is answered need not reach it.
    """
    reasons = {
        edit.id: f"After {edit.request.prompt!r} the edited model still answers otherwise behind "
        f"{1 - report['greedy_after']:.0%} of the texts the edit was tried behind. Reword the "
        "prompt, or use another method."
        for edit, report in zip(edits, diagnostics["edits"], strict=True)
        if report["greedy_after"] < LEAST_GREEDY and not edit.request.keep
    }
    if reasons:
        first = next(iter(reasons.values()))
        others = f" So it is with {len(reasons) - 1} more." if len(reasons) > 1 else ""
        raise TargetNotReached(first + others, reasons=reasons)
