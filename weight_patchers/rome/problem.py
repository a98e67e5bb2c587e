"""An edit as rows of tokens: the prompt behind each context, and what the model shall keep."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from weight_patchers.contexts import continuations
from weight_patchers.edit import Edit
from weight_patchers.rome.hparams import RomeHparams
from weight_patchers.subject import locate, target_ids
from weight_patchers.tokens import Batch, pad


@dataclass(frozen=True)
class Kept:
    """A text about the subject: predictions at the token indices `places` shall stay."""

    ids: tuple[int, ...]
    subject: int
    places: range


@dataclass(frozen=True, eq=False)
class Problem:
    """Rows 0 to contexts - 1 hold context + prompt + target, the rest the texts to be kept.

    `subjects` [rows] is the index of the subject's last token in each row. Target token
    `targets[i]` is predicted at (`target_rows[i]`, `target_columns[i]`), the first context's
    first; the distributions to be kept are at (`kept_rows[i]`, `kept_columns[i]`).
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
    kept: Sequence[Kept],
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
    places = [(len(rows) + i, place) for i, text in enumerate(kept) for place in text.places]
    rows += [text.ids for text in kept]
    subjects += [text.subject for text in kept]
    target_rows, target_columns, target_tokens = torch.tensor(targets, device=device).T
    kept_rows, kept_columns = torch.tensor(places, device=device).reshape(-1, 2).T.long()
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


def kept_texts(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, subject: str, hp: RomeHparams
) -> list[Kept]:
    """The kept prompts, each at its end, and what the model itself says of the subject.

    A sampled continuation of the subject is kept at every token from the subject's last on.
    """
    found = [
        locate(tokenizer, template.replace("{subject}", subject), subject)
        for template in hp.kl_prompts
    ]
    texts = [Kept(f.ids, f.subject, range(len(f.ids) - 1, len(f.ids))) for f in found]
    if hp.kept_samples:
        start = locate(tokenizer, subject, subject)
        texts += [
            Kept(ids, start.subject, range(start.subject, len(ids)))
            for ids in continuations(
                model, start.ids, count=hp.kept_samples, length=hp.kept_length, seed=hp.seed
            )
        ]
    return texts
