"""An edit as rows of tokens: the prompt behind each context, and the prompts to be kept."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from weight_patchers.edit import Edit
from weight_patchers.subject import locate, target_ids
from weight_patchers.tokens import Batch, pad


@dataclass(frozen=True, eq=False)
class Problem:
    """Rows 0 to contexts - 1 hold context + prompt + target, the rest the prompts to be kept.

    `subjects` [rows] is the index of the subject's last token in each row. Target token
    `targets[i]` is predicted at (`target_rows[i]`, `target_columns[i]`); the distributions to be
    kept are at (`kept_rows[i]`, `kept_columns[i]`).
    """

    batch: Batch
    subjects: Tensor
    contexts: int
    targets: Tensor
    target_rows: Tensor
    target_columns: Tensor
    kept_rows: Tensor
    kept_columns: Tensor


def pose(
    tokenizer: PreTrainedTokenizerBase,
    edit: Edit,
    contexts: Sequence[str],
    kept: Sequence[str],
    device: torch.device,
) -> Problem:
    """Tokenize the edit behind every context. Raises InvalidEdit when a part has no tokens."""
    rows: list[tuple[int, ...]] = []
    subjects: list[int] = []
    targets: list[tuple[int, int, int]] = []
    prompt = edit.prompt.rstrip(" ")
    for context in contexts:
        found = locate(tokenizer, context + prompt, edit.subject, start=len(context))
        target = target_ids(tokenizer, context + prompt, edit.target_new)
        targets += [(len(rows), len(found.ids) - 1 + i, token) for i, token in enumerate(target)]
        rows.append(found.ids + target[:-1])
        subjects.append(found.subject)
    kept_cells: list[tuple[int, int]] = []
    for template in kept:
        found = locate(tokenizer, template.replace("{subject}", edit.subject), edit.subject)
        kept_cells.append((len(rows), len(found.ids) - 1))
        rows.append(found.ids)
        subjects.append(found.subject)
    target_rows, target_columns, target_tokens = torch.tensor(targets, device=device).T
    kept_rows, kept_columns = torch.tensor(kept_cells, device=device).reshape(-1, 2).T.long()
    return Problem(
        batch=pad(rows, device),
        subjects=torch.tensor(subjects, device=device),
        contexts=len(contexts),
        targets=target_tokens,
        target_rows=target_rows,
        target_columns=target_columns,
        kept_rows=kept_rows,
        kept_columns=kept_columns,
    )
