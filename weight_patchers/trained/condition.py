"""The text that a conditioned editor reads beside the gradient: what is to replace what, and where.

De Cao et al. 2021 (arXiv 2104.08164) write it "prediction >> alternative || input".
"""

from collections.abc import Sequence

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from weight_patchers.edit import Edit
from weight_patchers.model.batch import Batch, pad
from weight_patchers.model.tokenization import encode, target_ids


def conditions(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, edits: Sequence[Edit]
) -> Batch:
    """The texts of the edits as tokens.

    The prediction is the model's own greedy answer, of as many tokens as the target has.
    """
    prompts = [edit.prompt.rstrip(" ") for edit in edits]
    starts = [encode(tokenizer, prompt)[0] for prompt in prompts]
    targets = [
        target_ids(tokenizer, prompt, edit.target_new)
        for prompt, edit in zip(prompts, edits, strict=True)
    ]
    predictions = _greedy(model, starts, [len(target) for target in targets])
    replaces, where = (encode(tokenizer, mark)[0] for mark in (" >>", " ||"))
    specials = set(tokenizer.all_special_ids)
    rows = [
        [
            token
            for part in (prediction, replaces, target, where, start)
            for token in part
            if token not in specials
        ]
        for prediction, target, start in zip(predictions, targets, starts, strict=True)
    ]
    return pad(rows, model.device)


def _greedy(
    model: PreTrainedModel, starts: Sequence[Sequence[int]], lengths: Sequence[int]
) -> list[list[int]]:
    """Each start's most probable continuation, token by token."""
    rows = [list(start) for start in starts]
    for _ in range(max(lengths)):
        batch = pad(rows, model.device)
        with torch.no_grad():
            logits = model(**batch.arguments()).logits
        last = batch.mask.sum(1) - 1
        chosen = logits[torch.arange(len(rows), device=last.device), last].argmax(-1).tolist()
        for row, token in zip(rows, chosen, strict=True):
            row.append(token)
    return [
        row[len(start) : len(start) + length]
        for row, start, length in zip(rows, starts, lengths, strict=True)
    ]
