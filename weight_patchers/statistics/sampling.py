"""The sample that statistics are made from: text as batches of token rows, and their keys."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice

import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from weight_patchers.model import hooks
from weight_patchers.model.batch import pad
from weight_patchers.model.layers import Projection
from weight_patchers.model.tokenization import beginning

LONGEST_ROW = 512
LARGEST_BATCH = 8192
_SMALLEST_BATCH = 32
# Each half of the sample then has at least eight batches.
_BATCHES = 16


def batch_tokens(tokens: int) -> int:
    """The most tokens in a batch, padding included, of a sample of `tokens` tokens."""
    return min(LARGEST_BATCH, max(_SMALLEST_BATCH, tokens // _BATCHES))


def batches(
    tokenizer: PreTrainedTokenizerBase, texts: Iterable[str], tokens: int, context: int
) -> Iterator[list[list[int]]]:
    """The first `tokens` tokens of the texts, in batches of rows of unequal length.

    All tokens count, special ones too. A text longer than 512 tokens, or than `context`, becomes
    several rows, each with what the tokenizer puts in front, and the last row is cut where the
    sample is full. A batch holds at most `batch_tokens(tokens)` tokens, or one row. The texts are
    drawn lazily, and the same texts always give the same batches.
    """
    limit = batch_tokens(tokens)
    rows: list[list[int]] = []
    longest, left = 0, tokens
    for row in _rows(tokenizer, texts, min(context, LONGEST_ROW)):
        cut = row[:left]
        if rows and max(longest, len(cut)) * (len(rows) + 1) > limit:
            yield rows
            rows, longest = [], 0
        rows.append(cut)
        longest = max(longest, len(cut))
        left -= len(cut)
        if not left:
            break
    if rows:
        yield rows


def sample_keys(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    texts: Iterable[str],
    targets: Mapping[int, Projection],
    tokens: int,
    skip: int = 0,
) -> Iterator[dict[int, Tensor]]:
    """Each target's input at every token, [tokens, d_in] on the model's device, by batch.

    The model does not read the first `skip` batches.
    """
    context = int(getattr(model.config.get_text_config(), "max_position_embeddings", LONGEST_ROW))
    for rows in islice(batches(tokenizer, texts, tokens, context), skip, None):
        yield _keys(model, rows, targets)


def _keys(
    model: PreTrainedModel, rows: Sequence[Sequence[int]], targets: Mapping[int, Projection]
) -> dict[int, Tensor]:
    batch = pad(rows, model.device)
    modules = {layer: target.module for layer, target in targets.items()}
    with torch.no_grad(), hooks.inputs(modules, len(batch.ids)) as captured:
        model(**batch.arguments())
    mask = batch.mask.bool()
    return {layer: inputs[mask] for layer, inputs in captured.items()}


def _rows(
    tokenizer: PreTrainedTokenizerBase, texts: Iterable[str], length: int
) -> Iterator[list[int]]:
    begins = beginning(tokenizer)
    for text in texts:
        ids = list(tokenizer(text, verbose=False)["input_ids"])
        yield ids[:length]
        step = length - len(begins)
        for start in range(length, len(ids), step):
            yield begins + ids[start : start + step]
