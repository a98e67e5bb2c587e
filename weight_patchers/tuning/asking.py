"""Asks a model: greedy answers, many prompts at once."""

from collections.abc import Sequence
from typing import Any

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from weight_patchers.model.batch import Batch
from weight_patchers.model.tokenization import encode

ROWS = 64
"""Prompts that are answered at once."""


def answers(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[str],
    tokens: int,
) -> list[str]:
    """The first `tokens` tokens of the greedy answer to each prompt, as text.

    The prompts are read in groups of `ROWS` in the given order, padded on the left, so equal lists
    are answered under equal conditions.
    """
    # Typed as a tensor or a module by PyTorch.
    generate: Any = model.generate
    texts: list[str] = []
    for start in range(0, len(prompts), ROWS):
        group = prompts[start : start + ROWS]
        rows = [encode(tokenizer, prompt)[0] for prompt in group]
        batch = padded_left(tokenizer, rows, model.device)
        generated = generate(
            input_ids=batch.ids,
            attention_mask=batch.mask,
            max_new_tokens=tokens,
            do_sample=False,
            num_beams=1,
            repetition_penalty=1.0,
            temperature=None,
            top_p=None,
            top_k=None,
            pad_token_id=padding(tokenizer),
        )
        said = generated[:, batch.ids.shape[1] :]
        texts += tokenizer.batch_decode(said, skip_special_tokens=True)
    return texts


def padded_left(
    tokenizer: PreTrainedTokenizerBase, rows: Sequence[Sequence[int]], device: torch.device
) -> Batch:
    """The rows of tokens, which end together, so that all can be continued."""
    longest = max(map(len, rows))
    ids = torch.full((len(rows), longest), padding(tokenizer))
    mask = torch.zeros_like(ids)
    for number, row in enumerate(rows):
        ids[number, longest - len(row) :] = torch.tensor(row)
        mask[number, longest - len(row) :] = 1
    return Batch(ids.to(device), mask.to(device))


def padding(tokenizer: PreTrainedTokenizerBase) -> int:
    """A token to pad with that no answer shows, if there is one."""
    for token in (tokenizer.pad_token_id, tokenizer.eos_token_id):
        if token is not None:
            return int(token)
    return 0
