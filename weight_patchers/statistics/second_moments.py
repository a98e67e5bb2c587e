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
    `Sums.finish` defines them. `whole`: the text holds no more tokens than these.
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
            have = ", ".join(str(known) for known in sorted(self.moments)) or "none"
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
    """The largest stored samples of at least `count` tokens, or of all that their source has.

    All are from one source (None: from any); the count is that of the smallest. None when a layer
    has none. Raises UnusableStatistics when a file is damaged or of another model.
    """
    found = find(folder, fingerprint, layers, source, dtype, count)
    if not found:
        return None
    return Statistics(
        fingerprint=fingerprint,
        source=next(iter(found.values())).source,
        count=min(entry.count for entry in found.values()),
        dtype=dtype,
        moments={layer: load_moment(folder / entry.name) for layer, entry in found.items()},
        errors={layer: entry.error for layer, entry in found.items()},
        whole=all(entry.whole for entry in found.values()),
    )


def sample_size(model: PreTrainedModel, layers: Sequence[int]) -> int:
    """How many tokens the default sample has: ten times the widest key."""
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

    `tokens` is the smallest sample that will do. For the rest see `load` and `collect`.
    """
    wanted = tokens if tokens is not None else sample_size(model, layers)
    key = (source.name, dtype_name(model), wanted)
    missing = [n for n in dict.fromkeys(layers) if not find(folder, fingerprint, [n], *key)]
    if missing:
        collect(
            model,
            tokenizer,
            source.texts(),
            layers=missing,
            fingerprint=fingerprint,
            source=source.name,
            tokens=wanted,
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

    Every token of every text counts, special ones too; a text longer than 512 tokens (or than
    the model's context) is cut into pieces. Texts are consumed lazily and no further than needed.
    `progress(done, wanted)` is called first and after each batch. The model is left as it was
    found.

    With a `folder`, the statistics are stored there, and while they are made, sums are kept
    there every `seconds`: when the process is killed, a call for the same base, source, dtype,
    layers and tokens goes on where it stopped, if it is given the same texts from the start.

    Of memory this takes 12 bytes on the CPU for each entry of every layer's moment, and 4 on the
    model's device for one layer's at a time.
    Raises UnusableStatistics when the texts hold fewer tokens than the widest key has dimensions:
    the moment would not have full rank.
    """
    targets = {layer: projection(model, layer) for layer in sorted(set(layers))}
    widths = {layer: target.d_in for layer, target in targets.items()}
    wanted = tokens if tokens is not None else sample_size(model, layers)
    _require_enough(wanted, max(widths.values()))
    sample = Sample(fingerprint, source, dtype_name(model), tuple(targets), wanted)
    partial = Partial(folder, sample, seconds) if folder is not None else None
    sums = Sums.zero(widths) if partial is None else partial.take_up(widths)
    if progress is not None:
        progress(sums.count, wanted)
    with hooks.frozen(model):
        for keys in sample_keys(model, tokenizer, texts, targets, wanted, skip=sums.batches):
            sums.add(keys)
            if progress is not None:
                progress(sums.count, wanted)
            if partial is not None and partial.due():
                partial.save(sums)
    count = sums.count
    _require_enough(count, max(widths.values()))
    moments, errors = sums.finish()
    found = Statistics(
        fingerprint, source, count, sample.dtype, moments, errors, whole=count < wanted
    )
    if folder is not None and partial is not None:
        found.save(folder)
        partial.delete()
    return found


def dtype_name(model: PreTrainedModel) -> str:
    """The dtype that the model computes in, as statistics name it: float32, bfloat16, ..."""
    return str(model.dtype).removeprefix("torch.")


def _require_enough(count: int, width: int) -> None:
    if count < width:
        raise UnusableStatistics(
            f"the sample has {count} tokens, but the keys have {width} dimensions: "
            f"give at least {TOKENS_PER_DIMENSION * width} tokens of text"
        )
