"""Second moments of the keys: C = E[k k^T], uncentred, over text the model reads.

Locate-then-edit methods weigh a change of W by C (Meng et al. 2022, "Locating and editing factual
associations in GPT", eq. 2). About ten tokens per key dimension are enough for a C whose inverse
gives edits of the same quality as from millions of tokens (arXiv 2506.04226).
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from weight_patchers.errors import UnusableStatistics
from weight_patchers.model import hooks
from weight_patchers.model.layers import projection
from weight_patchers.statistics.factor import Factor, factorize
from weight_patchers.statistics.partial import SECONDS, Partial, Sample
from weight_patchers.statistics.sampling import sample_keys
from weight_patchers.statistics.storage import Entry, find, load_moment, save_moment
from weight_patchers.statistics.sums import Sums
from weight_patchers.statistics.texts import Source

TOKENS_PER_DIMENSION = 10

Progress = Callable[[int, int], None]


@dataclass(frozen=True, eq=False)
class Statistics:
    """Second moments [d_in, d_in], float32 on the CPU, by layer, each over `count` tokens or more.

    `fingerprint` is the base model's, `source` names the text, `dtype` is the one the model
    computed the keys in. `errors` are the moments' relative standard errors by layer, as
    `Sums.finish` defines them. `whole` is true if these are all the tokens of the text.
    """

    fingerprint: str
    source: str
    count: int
    dtype: str
    moments: Mapping[int, Tensor]
    errors: Mapping[int, float] = field(default_factory=dict)
    whole: bool = False
    _factors: dict[int, Factor] = field(default_factory=dict, repr=False)

    def moment(self, layer: int) -> Tensor:
        """The layer's moment. Raises UnusableStatistics when there is none."""
        if layer not in self.moments:
            have = ", ".join(str(other) for other in sorted(self.moments)) or "none"
            raise UnusableStatistics(
                f"there are no key statistics for layer {layer} (there are: {have}): collect them"
            )
        return self.moments[layer]

    def factor(self, layer: int) -> Factor:
        """The Cholesky factor of the layer's moment, computed once.

        Raises UnusableStatistics when there is no moment for the layer or it cannot be inverted.
        """
        if layer not in self._factors:
            self._factors[layer] = factorize(self.moment(layer))
        return self._factors[layer]

    def save(self, folder: Path) -> None:
        """Write one file per layer, each whole or not at all."""
        for layer, moment in self.moments.items():
            error = self.errors.get(layer, math.inf)
            key = (self.fingerprint, layer, self.source, self.count, self.dtype)
            save_moment(folder, Entry(*key, error, self.whole), moment)


def load(
    folder: Path,
    fingerprint: str,
    layers: Sequence[int],
    source: str | None,
    dtype: str,
    count: int,
) -> Statistics | None:
    """The largest stored samples of at least `count` tokens, or of a source's whole text.

    All are from one source (None: any); the result's count is that of the smallest. None when a
    layer has no such sample. Raises UnusableStatistics when a file is damaged or of another model.
    """
    entries = find(folder, fingerprint, layers, source, dtype, count)
    if not entries:
        return None
    return Statistics(
        fingerprint=fingerprint,
        source=next(iter(entries.values())).source,
        count=min(entry.count for entry in entries.values()),
        dtype=dtype,
        moments={layer: load_moment(folder / entry.name) for layer, entry in entries.items()},
        errors={layer: entry.error for layer, entry in entries.items()},
        whole=all(entry.whole for entry in entries.values()),
    )


def sample_size(model: PreTrainedModel, layers: Sequence[int]) -> int:
    """Tokens in the default sample: ten times the widest key."""
    return TOKENS_PER_DIMENSION * max(projection(model, layer).d_in for layer in layers)


def obtain(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    source: Source,
    *,
    layers: Sequence[int],
    fingerprint: str,
    folder: Path,
    tokens: int | None = None,
    progress: Progress | None = None,
) -> Statistics:
    """The statistics stored in `folder`; layers that lack them are collected and stored first.

    `tokens` is the smallest sample size that is accepted. For the rest see `load` and `collect`.
    """
    required = tokens if tokens is not None else sample_size(model, layers)
    key = (source.name, dtype_name(model), required)
    missing = [n for n in dict.fromkeys(layers) if not find(folder, fingerprint, [n], *key)]
    if missing:
        collect(
            model,
            tokenizer,
            source.texts(),
            layers=missing,
            fingerprint=fingerprint,
            source=source.name,
            tokens=required,
            progress=progress,
            folder=folder,
        )
    stored = load(folder, fingerprint, layers, *key)
    if stored is None:
        raise UnusableStatistics(f"the statistics stored in {folder} are gone again: try once more")
    return stored


def collect(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    texts: Iterable[str],
    *,
    layers: Sequence[int],
    fingerprint: str,
    source: str,
    tokens: int | None = None,
    progress: Progress | None = None,
    folder: Path | None = None,
    seconds: float = SECONDS,
) -> Statistics:
    """Read the first `tokens` tokens of the texts (default: `sample_size`), all layers at once.

    All tokens count, special ones too; a text longer than 512 tokens (or than
    the model's context) is cut into pieces. Texts are consumed lazily and no further than needed.
    `progress(done, of)` is called at the start and after each batch. The model is left unchanged.

    With a `folder`, the statistics are stored there, and partial sums every `seconds`. If the
    process is killed, a call with the same base, source, dtype, layers, tokens and texts resumes
    from them.

    Memory: 12 bytes on the CPU for each entry of every layer's moment, and 4 on the model's device
    for those of one layer at a time.
    Raises UnusableStatistics when the texts hold fewer tokens than the widest key has dimensions:
    the moment would not have full rank.
    """
    targets = {layer: projection(model, layer) for layer in sorted(set(layers))}
    widths = {layer: target.d_in for layer, target in targets.items()}
    required = tokens if tokens is not None else sample_size(model, layers)
    _require_enough(required, max(widths.values()))
    sample = Sample(fingerprint, source, dtype_name(model), tuple(targets), required)
    partial = Partial(folder, sample, seconds) if folder is not None else None
    sums = Sums.zero(widths) if partial is None else partial.take_up(widths)
    if progress is not None:
        progress(sums.count, required)
    with hooks.frozen(model):
        for keys in sample_keys(model, tokenizer, texts, targets, required, skip=sums.batches):
            sums.add(keys)
            if progress is not None:
                progress(sums.count, required)
            if partial is not None and partial.due():
                partial.save(sums)
    count = sums.count
    _require_enough(count, max(widths.values()))
    moments, errors = sums.finish()
    statistics = Statistics(
        fingerprint, source, count, sample.dtype, moments, errors, whole=count < required
    )
    if folder is not None and partial is not None:
        statistics.save(folder)
        partial.delete()
    return statistics


def dtype_name(model: PreTrainedModel) -> str:
    """The dtype that the model computes in, by its name in statistics: float32, bfloat16, ..."""
    return str(model.dtype).removeprefix("torch.")


def _require_enough(count: int, width: int) -> None:
    if count < width:
        raise UnusableStatistics(
            f"the sample has {count} tokens, but the keys have {width} dimensions: "
            f"give at least {TOKENS_PER_DIMENSION * width} tokens of text"
        )
