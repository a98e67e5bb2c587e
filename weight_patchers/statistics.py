"""Second moments of the keys: C = E[k k^T], uncentred, over text the model reads.

Locate-then-edit methods weigh a change of W by C (Meng et al. 2022, "Locating and editing factual
associations in GPT", eq. 2). About ten tokens per key dimension are enough for a C whose inverse
gives edits of the same quality as from millions of tokens (arXiv 2506.04226).
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from weight_patchers import hooks
from weight_patchers.errors import UnusableStatistics
from weight_patchers.families import Projection, projection
from weight_patchers.solve import Factor, factorize
from weight_patchers.tokens import Batch, pad

TOKENS_PER_DIMENSION = 10
_BATCH_TOKENS = 4096
_MAX_LENGTH = 512

Progress = Callable[[int, int], None]


@dataclass(frozen=True, eq=False)
class Statistics:
    """Second moments [d_in, d_in], float32 on the CPU, by layer, each over `count` tokens.

    `fingerprint` is the base model's, `source` names the text, `dtype` is the one the model
    computed the keys in.
    """

    fingerprint: str
    source: str
    count: int
    dtype: str
    moments: Mapping[int, Tensor]
    _factors: dict[int, Factor] = field(default_factory=dict, repr=False)

    def factor(self, layer: int) -> Factor:
        """The Cholesky factor of the layer's moment, computed once.

        Raises UnusableStatistics when there is no moment for the layer or it cannot be inverted.
        """
        if layer not in self.moments:
            have = ", ".join(str(known) for known in sorted(self.moments)) or "none"
            raise UnusableStatistics(
                f"there are no key statistics for layer {layer} (there are: {have}): collect them"
            )
        if layer not in self._factors:
            self._factors[layer] = factorize(self.moments[layer])
        return self._factors[layer]

    def save(self, folder: Path) -> None:
        """Write one file per layer, each whole or not at all."""
        folder.mkdir(parents=True, exist_ok=True)
        for layer, moment in self.moments.items():
            path = folder / file_name(self.fingerprint, layer, self.source, self.dtype)
            temporary = path.with_suffix(".tmp")
            metadata = {
                "fingerprint": self.fingerprint,
                "source": self.source,
                "count": str(self.count),
                "dtype": self.dtype,
                "layer": str(layer),
            }
            save_file({"moment": moment.contiguous()}, temporary, metadata=metadata)
            temporary.replace(path)


def file_name(fingerprint: str, layer: int, source: str, dtype: str) -> str:
    """The name under which a layer's moment is stored."""
    return f"{fingerprint[:16]}-layer{layer}-{source}-{dtype}.safetensors"


def load(
    folder: Path, fingerprint: str, layers: Sequence[int], source: str, dtype: str, count: int
) -> Statistics | None:
    """The stored statistics of these layers, or None when one is missing or smaller than `count`.

    Raises UnusableStatistics when a file is there but damaged or of another model.
    """
    moments: dict[int, Tensor] = {}
    counts = []
    for layer in layers:
        path = folder / file_name(fingerprint, layer, source, dtype)
        if not path.is_file():
            return None
        moment, metadata = _read(path)
        expected = (fingerprint, source, dtype, str(layer))
        if tuple(metadata.get(k) for k in ("fingerprint", "source", "dtype", "layer")) != expected:
            raise UnusableStatistics(f"{path} belongs to another model or text: delete it")
        counts.append(int(metadata["count"]))
        moments[layer] = moment
    if min(counts, default=0) < count:
        return None
    return Statistics(fingerprint, source, min(counts), dtype, moments)


def _read(path: Path) -> tuple[Tensor, dict[str, str]]:
    try:
        with safe_open(path, framework="pt") as file:
            return file.get_tensor("moment"), file.metadata() or {}
    except (SafetensorError, OSError) as error:
        raise UnusableStatistics(f"{path} cannot be read ({error}): delete it") from error


def sample_size(model: PreTrainedModel, layers: Sequence[int]) -> int:
    """How many tokens the default sample has: ten times the widest key."""
    return TOKENS_PER_DIMENSION * max(projection(model, layer).d_in for layer in layers)


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
) -> Statistics:
    """Read texts until `tokens` tokens (default: `sample_size`) are counted, all layers at once.

    Every token of every text counts, special ones too; a text longer than 512 tokens (or than
    the model's context) is cut into pieces. Texts are consumed lazily and no further than needed.
    `progress(done, wanted)` is called after each batch. The model is left as it was found.
    Raises UnusableStatistics when the texts hold fewer tokens than the widest key has dimensions:
    the moment would not have full rank.
    """
    targets = {layer: projection(model, layer) for layer in layers}
    wanted = tokens if tokens is not None else sample_size(model, layers)
    totals = {
        layer: torch.zeros(target.d_in, target.d_in, dtype=torch.float64)
        for layer, target in targets.items()
    }
    count = 0
    with hooks.frozen(model), torch.no_grad():
        for batch in _batches(model, tokenizer, texts):
            _accumulate(model, batch, targets, totals)
            count += int(batch.mask.sum())
            if progress is not None:
                progress(min(count, wanted), wanted)
            if count >= wanted:
                break
    _require_enough(count, targets.values())
    moments = {layer: (total / count).float() for layer, total in totals.items()}
    return Statistics(fingerprint, source, count, str(model.dtype).removeprefix("torch."), moments)


def _accumulate(
    model: PreTrainedModel,
    batch: Batch,
    targets: Mapping[int, Projection],
    totals: Mapping[int, Tensor],
) -> None:
    modules = {layer: target.module for layer, target in targets.items()}
    with hooks.inputs(modules, len(batch.ids)) as captured:
        model(**batch.arguments())
    mask = batch.mask.bool()
    for layer, inputs in captured.items():
        keys = inputs[mask].float()
        totals[layer].add_((keys.T @ keys).cpu().double())


def _require_enough(count: int, targets: Iterable[Projection]) -> None:
    width = max(target.d_in for target in targets)
    if count < width:
        raise UnusableStatistics(
            f"the text has {count} tokens, but the keys have {width} dimensions: "
            f"give at least {TOKENS_PER_DIMENSION * width} tokens of text"
        )


def _batches(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, texts: Iterable[str]
) -> Iterator[Batch]:
    context = int(getattr(model.config.get_text_config(), "max_position_embeddings", _MAX_LENGTH))
    rows: list[list[int]] = []
    for text in texts:
        for row in _pieces(tokenizer, text, min(context, _MAX_LENGTH)):
            longest = max(len(row), max((len(r) for r in rows), default=0))
            if rows and longest * (len(rows) + 1) > _BATCH_TOKENS:
                yield pad(rows, model.device)
                rows = []
            rows.append(row)
    if rows:
        yield pad(rows, model.device)


def _pieces(tokenizer: PreTrainedTokenizerBase, text: str, length: int) -> Iterator[list[int]]:
    ids = list(tokenizer(text, verbose=False)["input_ids"])
    for start in range(0, len(ids), length):
        yield ids[start : start + length]
