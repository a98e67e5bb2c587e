"""Rows as tokens: the prompt and the answer to learn."""

import random
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from transformers import PreTrainedTokenizerBase

from retriever.text import with_full_stop
from vllm_edit.serac.prompt import edits_before
from vllm_edit.serac.training.data import TrainingRow

_IGNORED = -100
# Share of rows with one or two unrelated edits, and share of rows that are chats.
_OTHERS_SHARE, _CHAT_SHARE = 0.3, 0.4


class Example(NamedTuple):
    """Token ids; the first `given` have no loss."""

    ids: list[int]
    given: int


class Examples:
    """Makes examples as completions and, if the tokenizer has a chat template, as chats."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self._tokenizer: Any = tokenizer
        self._chats = bool(tokenizer.chat_template)

    def batch(
        self, rows: Sequence[TrainingRow], pool: Sequence[TrainingRow], rng: random.Random
    ) -> dict[str, torch.Tensor]:
        """The model's inputs and labels for these rows; other edits come from `pool`."""
        return self._padded([self._example(row, pool, rng) for row in rows])

    def prompt(
        self, row: TrainingRow, *, chat: bool = False, other_edits: Sequence[str] = ()
    ) -> list[int]:
        """The token ids before the answer."""
        question = edits_before([*other_edits, row.edit]) + row.question
        return self._ids(self._formatted(question, chat=chat), chat=chat)

    def _example(
        self, row: TrainingRow, pool: Sequence[TrainingRow], rng: random.Random
    ) -> Example:
        statements = [row.edit]
        if rng.random() < _OTHERS_SHARE:
            others = {rng.choice(pool).edit for _ in range(rng.randint(1, 2))}
            statements += others - {row.edit}
            rng.shuffle(statements)
        chat = self._chats and rng.random() < _CHAT_SHARE
        prompt = self._formatted(edits_before(statements) + row.question, chat=chat)
        answer = with_full_stop(row.answer)
        given = self._ids(prompt, chat=chat)
        ids = self._ids(f"{prompt}{'' if chat else ' '}{answer}", chat=chat)
        return Example([*ids, self._tokenizer.eos_token_id], _shared(given, ids))

    def _formatted(self, text: str, *, chat: bool) -> str:
        if not chat:
            return text
        messages = [{"role": "user", "content": text}]
        formatted: str = self._tokenizer.apply_chat_template(
            messages, tokenize=False, add_generation_prompt=True
        )
        return formatted

    def _ids(self, text: str, *, chat: bool) -> list[int]:
        ids: list[int] = self._tokenizer(text, add_special_tokens=not chat)["input_ids"]
        return ids

    def _padded(self, examples: Sequence[Example]) -> dict[str, torch.Tensor]:
        longest = max(len(example.ids) for example in examples)
        size = (len(examples), longest)
        ids = torch.full(size, self._tokenizer.eos_token_id)
        mask, labels = torch.zeros(size, dtype=torch.long), torch.full(size, _IGNORED)
        for at, (tokens, given) in enumerate(examples):
            ids[at, : len(tokens)] = torch.tensor(tokens)
            mask[at, : len(tokens)] = 1
            labels[at, given : len(tokens)] = torch.tensor(tokens[given:])
        return {"input_ids": ids, "attention_mask": mask, "labels": labels}


def _shared(one: Sequence[int], other: Sequence[int]) -> int:
    """The length of the common prefix."""
    pairs = enumerate(zip(one, other, strict=False))
    return next((at for at, (a, b) in pairs if a != b), min(len(one), len(other)))
