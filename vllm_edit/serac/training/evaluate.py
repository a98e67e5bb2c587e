"""The share of greedy answers of a counterfactual model that follow the edit."""

from collections.abc import Sequence
from typing import Any

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from vllm_edit.serac.training.data import TrainingRow
from vllm_edit.serac.training.examples import Examples

_BATCH = 32
_SPARE_TOKENS = 4


def evaluate(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, rows: Sequence[TrainingRow]
) -> dict[str, float]:
    """The share of right answers by kind of rows; also for chats if there is a chat template."""
    right: dict[str, list[bool]] = {}
    for chat in (False, True) if tokenizer.chat_template else (False,):
        for start in range(0, len(rows), _BATCH):
            part = rows[start : start + _BATCH]
            for row, text in zip(part, _answers(model, tokenizer, part, chat), strict=True):
                name = f"{row.kind}, chat" if chat else row.kind
                right.setdefault(name, []).append(is_right(text, row.answer))
    return {name: sum(results) / len(results) for name, results in right.items()}


def is_right(text: str, answer: str) -> bool:
    """Whether the text begins with the answer, as whole words."""
    rest = text.strip().removeprefix(answer)
    return rest != text.strip() and not rest[:1].isalnum()


def _answers(
    model: Any, tokenizer: PreTrainedTokenizerBase, rows: Sequence[TrainingRow], chat: bool
) -> list[str]:
    examples, encoder = Examples(tokenizer), tokenizer
    prompts = [examples.prompt(row, chat=chat) for row in rows]
    longest = max(map(len, prompts))
    most = max(len(encoder(row.answer)["input_ids"]) for row in rows) + _SPARE_TOKENS
    end: Any = tokenizer.eos_token_id
    ids = torch.tensor([[end] * (longest - len(ids)) + ids for ids in prompts])
    mask = torch.tensor([[0] * (longest - len(ids)) + [1] * len(ids) for ids in prompts])
    with torch.inference_mode():
        output = model.generate(
            input_ids=ids.to(model.device),
            attention_mask=mask.to(model.device),
            max_new_tokens=most,
            do_sample=False,
            pad_token_id=end,
        )
    texts: list[str] = tokenizer.batch_decode(output[:, longest:], skip_special_tokens=True)
    return texts
