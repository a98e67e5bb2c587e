"""The autograd copy of the model, and what is kept between edits to make them fast."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel
from transformers import PreTrainedTokenizerBase as Tokenizer

from vllm_edit.editor.corpus import corpus_for
from vllm_edit.errors import InvalidEdit, Unavailable
from weight_patchers import Delta, Edit, RomeHparams, Statistics, fingerprint, rome, statistics
from weight_patchers.hyperparameters import find, override

METHODS = ("rome",)

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Options:
    """Where the model and its statistics are, and where to compute."""

    model: Path
    statistics: Path
    text: Path | None = None
    device: str = "cpu"


@dataclass
class Workbench:
    """Computes deltas for one base model, loaded at first use, in float32.

    Between calls the model holds base + the live deltas of the last call. Every call starts from
    pristine copies of whatever was written, so no rounding adds up.
    """

    options: Options
    _loaded: "_Loaded | None" = None
    _statistics: dict[int, Statistics] = field(default_factory=dict)
    _contexts: dict[tuple[Any, ...], tuple[str, ...]] = field(default_factory=dict)

    def prepare(self, method: str, progress: Progress) -> str:
        """Load everything that `method` needs; returns the base's fingerprint."""
        hparams = self._hparams(method, {}, progress)
        self._statistics_of(hparams, progress)
        return self._load(progress).fingerprint

    def compute(
        self,
        method: str,
        edits: Sequence[Edit],
        hyperparameters: Mapping[str, Any],
        live: Sequence[Path],
        output: Path,
        progress: Progress,
    ) -> Delta:
        """Compute the delta of `edits` on top of the `live` ones, and write it to `output`.

        Raises PatcherError or EditError with the reason; then `output` is not written.
        """
        hparams = self._hparams(method, hyperparameters, progress)
        loaded = self._load(progress)
        known = self._statistics_of(hparams, progress)
        contexts = self._contexts_of(loaded, hparams)
        loaded.apply([Delta.load(path) for path in live])
        progress("editing", 0, len(edits))
        delta = rome.compute(
            loaded.model,
            loaded.tokenizer,
            edits,
            hparams,
            known,
            contexts=contexts,
            progress=lambda done, of: progress("editing", done, of),
        )
        delta.save(output)
        return delta

    def _load(self, progress: Progress) -> "_Loaded":
        if self._loaded is None:
            progress("loading", 0, 1)
            self._loaded = _Loaded.from_folder(self.options.model, self.options.device)
            progress("loading", 1, 1)
        return self._loaded

    def _hparams(self, method: str, values: Mapping[str, Any], progress: Progress) -> RomeHparams:
        if method not in METHODS:
            raise InvalidEdit(
                f"The editor has no method {method!r}; it has {', '.join(METHODS)}.",
                code="unknown_method",
            )
        config = self._load(progress).model.config
        return override(find(RomeHparams, method, config), values)

    def _statistics_of(self, hparams: RomeHparams, progress: Progress) -> Statistics:
        loaded = self._load(progress)
        if not hparams.covariance:
            return Statistics(loaded.fingerprint, "none", 0, "float32", {})
        layer = hparams.layer
        if layer not in self._statistics:
            self._statistics[layer] = self._read_or_collect(loaded, layer, progress)
        return self._statistics[layer]

    def _read_or_collect(self, loaded: "_Loaded", layer: int, progress: Progress) -> Statistics:
        corpus = corpus_for(self.options.model, self.options.text)
        wanted = statistics.sample_size(loaded.model, [layer])
        stored = statistics.load(
            self.options.statistics, loaded.fingerprint, [layer], corpus.name, "float32", wanted
        )
        if stored is not None:
            return stored
        loaded.apply([])
        collected = statistics.collect(
            loaded.model,
            loaded.tokenizer,
            corpus.texts(),
            layers=[layer],
            fingerprint=loaded.fingerprint,
            source=corpus.name,
            progress=lambda done, of: progress("statistics", done, of),
        )
        if collected.count >= wanted:
            collected.save(self.options.statistics)
        return collected

    def _contexts_of(self, loaded: "_Loaded", hparams: RomeHparams) -> tuple[str, ...]:
        """Sampled from the base, so that an edit does not depend on what was live before."""
        key = (hparams.seed, hparams.context_count, hparams.context_lengths)
        if key not in self._contexts:
            loaded.apply([])
            self._contexts[key] = rome.sample_contexts(loaded.model, loaded.tokenizer, hparams)
        return self._contexts[key]


@dataclass(eq=False)
class _Loaded:
    model: PreTrainedModel
    tokenizer: Tokenizer
    fingerprint: str
    pristine: dict[str, Tensor] = field(default_factory=dict)

    @classmethod
    def from_folder(cls, folder: Path, device: str) -> "_Loaded":
        identity = fingerprint(folder)
        try:
            tokenizer = AutoTokenizer.from_pretrained(folder)
            model: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
            return cls(model.to(device).eval(), tokenizer, identity)
        except (OSError, ValueError, KeyError) as error:
            raise Unavailable(
                f"Transformers cannot load {folder}, so its weights cannot be edited: {error}"
            ) from error

    def apply(self, deltas: Sequence[Delta]) -> None:
        """Make the weights equal to base + the sum of the deltas, float32."""
        for delta in deltas:
            delta.require_base(self.fingerprint)
        for name in {name for delta in deltas for name in delta.factors}:
            if name not in self.pristine:
                self.pristine[name] = self.model.get_parameter(name).detach().clone()
        with torch.no_grad():
            for name, base in self.pristine.items():
                total = base.clone()
                for delta in deltas:
                    if name in delta.factors:
                        factor = delta.factors[name]
                        dense = factor.dense().to(base.device)
                        total += dense.T if factor.transposed else dense
                self.model.get_parameter(name).copy_(total)
