"""What an editor is trained on, as rows of tokens."""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from weight_patchers.edit import Edit
from weight_patchers.model.batch import Batch, pad
from weight_patchers.model.tokenization import encode, target_ids


@dataclass(frozen=True)
class TrainingEdit:
    """An edit, prompts that ask for its target in other words, and what must be kept.

    `kept` holds prompts with answers: what the base predicts for an answer's tokens is kept.
    """

    edit: Edit
    rephrasings: tuple[str, ...]
    kept: tuple[tuple[str, str], ...]


Draw = Callable[[random.Random], TrainingEdit]
"""One training edit; the same for the same state of the generator."""


@dataclass(frozen=True, eq=False)
class Questions:
    """Prompts with their answers, each about one edit.

    Row i of `batch` belongs to edit `owners[i]`. Answer token `tokens[j]` is predicted at
    (`rows[j]`, `columns[j]`); `kept[j]` says that the base's prediction there must stay, `own[j]`
    that the row is the edit's own prompt. The rows that keep come last.
    """

    batch: Batch
    owners: Tensor
    tokens: Tensor
    rows: Tensor
    columns: Tensor
    own: Tensor
    kept: Tensor

    def only_kept(self) -> tuple[Batch, Tensor, Tensor]:
        """The rows that keep alone: their batch, and rows and columns of their places."""
        rows, columns = self.rows[self.kept], self.columns[self.kept]
        first = int(rows.min())
        batch = Batch(self.batch.ids[first:], self.batch.mask[first:])
        return batch, rows - first, columns


@dataclass(frozen=True)
class QuestionBuilder:
    """Draws questions about training edits: for each its own prompt, and some of its others.

    `end` is a text that follows every answer.
    """

    tokenizer: PreTrainedTokenizerBase
    rephrasings: int
    kept: int
    end: str = ""

    def build(
        self, edits: Sequence[TrainingEdit], rng: random.Random, device: torch.device
    ) -> Questions:
        """Raises InvalidEdit when a part has no tokens."""
        told: list[tuple[int, str, str, bool]] = []
        kept: list[tuple[int, str, str, bool]] = []
        for owner, edit in enumerate(edits):
            target = edit.edit.target_new
            told.append((owner, edit.edit.prompt, target, True))
            told += [
                (owner, p, target, False) for p in _some(edit.rephrasings, self.rephrasings, rng)
            ]
            kept += [(owner, p, answer, False) for p, answer in _some(edit.kept, self.kept, rng)]
        texts = [self._tokens(prompt, answer) for _, prompt, answer, _ in (*told, *kept)]
        places = [
            (token, row, len(prompt) - 1 + number)
            for row, (prompt, answer) in enumerate(texts)
            for number, token in enumerate(answer)
        ]
        tokens, rows, columns = torch.tensor(places, device=device).T
        own = torch.tensor([own for *_, own in (*told, *kept)], device=device)
        return Questions(
            batch=pad([[*prompt, *answer[:-1]] for prompt, answer in texts], device),
            owners=torch.tensor([owner for owner, *_ in (*told, *kept)], device=device),
            tokens=tokens,
            rows=rows,
            columns=columns,
            own=own[rows],
            kept=rows >= len(told),
        )

    def _tokens(self, prompt: str, answer: str) -> tuple[list[int], tuple[int, ...]]:
        ids, _ = encode(self.tokenizer, prompt.rstrip(" "))
        return ids, target_ids(self.tokenizer, prompt, answer + self.end)


def without_each_other(edits: Sequence[TrainingEdit], together: int) -> list[TrainingEdit]:
    """The edits, in groups of `together`, without kept questions about others of the group."""
    cleaned = []
    for place, edit in enumerate(edits):
        start = place - place % together
        others = {e.edit.subject for e in edits[start : start + together]} - {edit.edit.subject}
        kept = [pair for pair in edit.kept if not any(name in pair[0] for name in others)]
        cleaned.append(replace(edit, kept=tuple(kept)))
    return cleaned


def _some(items: Sequence, count: int, rng: random.Random) -> Sequence:  # type: ignore[type-arg]
    return items if len(items) <= count else rng.sample(items, count)
