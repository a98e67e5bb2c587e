"""Texts sampled from the model itself: what may come before a prompt, what it says of a subject."""

from collections.abc import Sequence

import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from weight_patchers import hooks

# Started from these where the tokenizer has no beginning-of-text token.
_STARTS = ("The", "In", "Because", "I", "You", "A", "When", "For", "As", "It")
_TOP_K = 5


def sample(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    *,
    count: int,
    lengths: Sequence[int],
    seed: int,
) -> tuple[str, ...]:
    """The empty prefix and `count` prefixes for each length in tokens, sampled from the model.

    Deterministic for a model, its device and a seed; each sampled prefix ends in `. `, so that a
    prompt can follow. The model is left as it was found (ROME, appendix: sampled prefixes).
    """
    generator = torch.Generator().manual_seed(seed)
    prefixes = [""]
    with hooks.frozen(model), torch.no_grad():
        for length in lengths:
            rows = _starts(tokenizer, count).to(model.device)
            rows = _extend(model, rows, length, generator)
            texts = tokenizer.batch_decode(rows, skip_special_tokens=True)
            prefixes.extend(_as_prefix(text) for text in texts)
    return tuple(prefixes)


def continuations(
    model: PreTrainedModel, ids: Sequence[int], *, count: int, length: int, seed: int
) -> list[tuple[int, ...]]:
    """`ids` with `count` different continuations of `length` tokens that the model gives them.

    They start with the `count` most probable tokens, and go on sampled, deterministically for a
    seed. The model is left as it was found.
    """
    generator = torch.Generator().manual_seed(seed)
    with hooks.frozen(model), torch.no_grad():
        start = torch.tensor([list(ids)], device=model.device)
        logits = model(input_ids=start, use_cache=False).logits[0, -1]
        first = logits.topk(min(count, len(logits))).indices[:, None]
        rows = torch.cat([start.expand(len(first), -1), first], dim=1)
        rows = _extend(model, rows, length - 1, generator)
    return [tuple(row) for row in rows.tolist()]


def _extend(
    model: PreTrainedModel, rows: Tensor, length: int, generator: torch.Generator
) -> Tensor:
    for _ in range(length):
        rows = torch.cat([rows, _next_tokens(model, rows, generator)], dim=1)
    return rows


def _starts(tokenizer: PreTrainedTokenizerBase, count: int) -> Tensor:
    if tokenizer.bos_token_id is not None:
        return torch.full((count, 1), int(tokenizer.bos_token_id))
    words = [_STARTS[i % len(_STARTS)] for i in range(count)]
    return torch.tensor(
        [tokenizer(word, add_special_tokens=False)["input_ids"][:1] for word in words]
    )


def _next_tokens(model: PreTrainedModel, rows: Tensor, generator: torch.Generator) -> Tensor:
    logits = model(input_ids=rows, use_cache=False).logits[:, -1].float().cpu()
    top, candidates = logits.topk(min(_TOP_K, logits.shape[-1]))
    chosen = torch.multinomial(top.softmax(-1), 1, generator=generator)
    tokens: Tensor = candidates.gather(1, chosen).to(rows.device)
    return tokens


def _as_prefix(text: str) -> str:
    text = " ".join(text.split()).rstrip(".")
    return f"{text}. " if text else ""
