"""Computes deltas, and keeps what makes the next one fast."""

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

from torch import Tensor
from transformers import PreTrainedModel

from vllm_edit.domain.errors import InvalidEdit
from vllm_edit.editor.corpus import corpus_for
from vllm_edit.editor.loaded import Loaded
from weight_patchers import Delta, Edit, Statistics, statistics
from weight_patchers.governor import GOVERNOR, Bounds
from weight_patchers.hyperparameters import find, override
from weight_patchers.methods import METHODS
from weight_patchers.trained.file import find as trained_editor
from weight_patchers.values.contexts import Context, sample_contexts
from weight_patchers.values.hparams import ContextHparams
from weight_patchers.values.memory import MemoryHparams, sample_memory
from weight_patchers.values.shared_values import SharedValues
from weight_patchers.values.workload import ValueCache


class Hyperparameters(Protocol):
    """What those of every method have: the layers written, and whether statistics are needed."""

    @property
    def layers(self) -> tuple[int, ...]: ...

    @property
    def covariance(self) -> bool: ...


@dataclass(frozen=True)
class Options:
    """Where the model and its statistics are, and where to compute."""

    model: Path
    statistics: Path
    text: Path | None = None
    device: str = "cpu"
    trained: Path | None = None
    """The folder of trained editors, beside the shipped ones."""


@dataclass
class Workbench:
    """Computes deltas for one base model, loaded at first use, in float32.

    Between calls the model holds the base and deltas of the last call; every use of it begins
    with making it hold what is wanted. With `shared`, values on the base alone are kept for all
    calls, of every method; without, those of the last call.
    """

    options: Options
    shared: SharedValues | None = None
    _loaded: Loaded | None = None
    _statistics: dict[tuple[int, ...], Statistics] = field(default_factory=dict)
    _contexts: dict[tuple[Any, ...], tuple[Context, ...]] = field(default_factory=dict)
    _memories: dict[tuple[int, ...], Tensor] = field(default_factory=dict)
    _values: tuple[object, ValueCache] = field(default_factory=lambda: (None, {}))

    @property
    def saved(self) -> float:
        """Seconds that shared values saved so far."""
        return 0.0 if self.shared is None else self.shared.saved

    def prepare(self, methods: Mapping[str, Mapping[str, Any]]) -> str:
        """Load everything that the methods need, with these hyperparameters of each.

        Returns the base's fingerprint.
        """
        chosen = [self._hparams(method, values) for method, values in methods.items()]
        layers = {layer for hparams in chosen if hparams.covariance for layer in hparams.layers}
        if layers:
            self._statistics_of(tuple(sorted(layers)))
        return self.load().fingerprint

    def compute(
        self,
        method: str,
        edits: Sequence[Edit],
        hyperparameters: Mapping[str, Any],
        bounds: Mapping[str, Any],
        live: Sequence[Path],
        output: Path,
    ) -> Delta:
        """Compute the delta of `edits` on top of the `live` ones, and write it to `output`.

        Some methods compute it on the base alone; see `Patcher`.
        `bounds` replace single ones of the model's, which the delta and the live ones are held
        against together; the verdict is in its diagnostics.
        Raises PatcherError or EditError with the reason; then `output` is not written.
        """
        hparams = self._hparams(method, hyperparameters)
        loaded = self.load()
        limits = self._bounds(bounds)
        given = self._given(method, hparams)
        below = [Delta.load(path) for path in live]
        under = [] if METHODS[method].from_base else below
        loaded.apply(under)
        with self._values_of(method, hparams, edits, live) as values:
            delta = METHODS[method].compute(edits=edits, live=under, **given, **values)
        verdict = loaded.judge([*below, delta], limits)
        delta = replace(delta, diagnostics={**delta.diagnostics, GOVERNOR: verdict.diagnostics()})
        delta.save(output)
        return delta

    def compute_each(self, method: str, edits: Sequence[Edit]) -> list[Delta]:
        """The deltas of one `compute` per edit on the base, made side by side.

        The governor has not seen them: see `admit`. Raises as `compute` does.
        """
        hparams = self._hparams(method, {})
        make = METHODS[method].compute_each
        if make is None:
            raise InvalidEdit(f"{method} makes no edits side by side.", code="unknown_method")
        given = self._given(method, hparams)
        self.load().apply([])
        with self._values_of(method, hparams, edits, []) as values:
            return make(edits=edits, **given, **values)

    def admit(self, delta: Path) -> None:
        """Have the model hold the base and this delta, unless the governor refuses it."""
        self.load().judge([Delta.load(delta)], self._bounds({}))

    def _bounds(self, bounds: Mapping[str, Any]) -> Bounds:
        return override(find(Bounds, GOVERNOR, self.load().model.config), bounds)

    def serve(self, live: Sequence[Path]) -> None:
        """Have the model hold the base and the live deltas."""
        self.load().apply([Delta.load(path) for path in live])

    def _given(self, method: str, hparams: Hyperparameters) -> dict[str, Any]:
        """What a method takes beside the edits and their values; it may make the model hold the
        base."""
        loaded = self.load()
        return {
            "model": loaded.model,
            "tokenizer": loaded.tokenizer,
            "hparams": hparams,
            "statistics": self._statistics_of(hparams.layers if hparams.covariance else ()),
            "contexts": self._contexts_of(loaded, hparams),
            "memory": self._memory_of(loaded, hparams),
            **self._trained_of(method),
        }

    def _values_of(
        self, method: str, hparams: Any, edits: Sequence[Edit], live: Sequence[Path]
    ) -> AbstractContextManager[dict[str, Any]]:
        """Arguments of one `compute`, with the values that it may use again.

        A batch comes again without an edit that failed, or in another edit set.
        """
        if not METHODS[method].values:
            return nullcontext({})
        if self.shared is not None and not live:
            return self.shared.arguments((hparams.value_conditions, hparams.layers), edits)
        conditions = method, hparams, tuple(live)
        if self._values[0] != conditions:
            self._values = conditions, {}
        return nullcontext({"value_cache": self._values[1]})

    def _trained_of(self, method: str) -> Mapping[str, Any]:
        """Read anew each time, so that an editor that is trained meanwhile is used."""
        kind = METHODS[method].editor
        if kind is None:
            return {}
        loaded = self.load()
        folder = self.options.trained
        return {"trained": trained_editor(kind, loaded.model, loaded.fingerprint, folder)}

    def load(self) -> Loaded:
        """The model, loaded at first use; raises Unavailable or PatcherError."""
        if self._loaded is None:
            self._loaded = Loaded.from_folder(self.options.model, self.options.device)
        return self._loaded

    def answering(self, dtype: str) -> PreTrainedModel:
        """The model that holds what this one does, rounded to `dtype`."""
        return self.load().rounded(dtype)

    def _hparams(self, method: str, values: Mapping[str, Any]) -> Hyperparameters:
        if method not in METHODS:
            raise InvalidEdit(
                f"The editor has no method {method!r}; it has {', '.join(METHODS)}.",
                code="unknown_method",
            )
        config = self.load().model.config
        hparams: Hyperparameters = override(find(METHODS[method].hparams, method, config), values)
        return hparams

    def _statistics_of(self, layers: tuple[int, ...]) -> Statistics:
        """Statistics of these layers at least; of none, they only name the base."""
        loaded = self.load()
        if not layers:
            return Statistics(loaded.fingerprint, "none", 0, "float32", {})
        for known, found in self._statistics.items():
            if set(layers) <= set(known):
                return found
        self._statistics[layers] = self._read_or_collect(loaded, layers)
        return self._statistics[layers]

    def _read_or_collect(self, loaded: Loaded, layers: tuple[int, ...]) -> Statistics:
        folder = self.options.statistics
        if self.options.text is None:
            # Whoever stored statistics, of whatever text, need not name it to the server too.
            wanted = statistics.sample_size(loaded.model, layers)
            stored = statistics.load(folder, loaded.fingerprint, layers, None, "float32", wanted)
            if stored is not None:
                return stored
        loaded.apply([])
        return statistics.obtain(
            loaded.model,
            loaded.tokenizer,
            corpus_for(self.options.model, self.options.text),
            layers=layers,
            fingerprint=loaded.fingerprint,
            folder=folder,
        )

    def _contexts_of(self, loaded: Loaded, hparams: Hyperparameters) -> tuple[Context, ...] | None:
        """Sampled from the base, so that an edit does not depend on what was live before."""
        if not isinstance(hparams, ContextHparams):
            return None
        key = (
            hparams.seed,
            hparams.context_count,
            hparams.context_lengths,
            hparams.chat,
            hparams.end,
        )
        if key not in self._contexts:
            loaded.apply([])
            self._contexts[key] = sample_contexts(loaded.model, loaded.tokenizer, hparams)
        return self._contexts[key]

    def _memory_of(self, loaded: Loaded, hparams: Hyperparameters) -> Tensor | None:
        """Sampled from the base once, for methods that add units to an MLP."""
        if not isinstance(hparams, MemoryHparams):
            return None
        key = hparams.layer, hparams.memory_texts, hparams.memory_length, hparams.seed
        if key not in self._memories:
            loaded.apply([])
            self._memories[key] = sample_memory(loaded.model, loaded.tokenizer, hparams)
        return self._memories[key]
