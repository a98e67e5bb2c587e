"""Edits as rows of tokens: each prompt in each context, and the predictions to keep."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from weight_patchers.edit import Edit
from weight_patchers.model.batch import Batch, pad
from weight_patchers.model.tokenization import Tokens, locate, target_ids
from weight_patchers.values.contexts import STOP, Context, continuations
from weight_patchers.values.hparams import ValueHparams


@dataclass(frozen=True)
class KeptText:
    """A text about the subject: predictions at the token indices `places` are kept."""

    ids: tuple[int, ...]
    subject: int
    places: range


@dataclass(frozen=True, eq=False)
class Problem:
    """Groups of edits; a group has one subject and gets one value.

    Row i of `batch` belongs to group `owners[i]`; `subjects[i]` is the index of the subject's
    last token in it, and `shares[i]` the row's share in its group's key: these sum to 1 within a
    group, and are 0 for texts that are only kept. `bare[i]` marks a prompt without a context.
    Target token `targets[j]`, of edit `target_edits[j]`, is predicted at (`target_rows[j]`,
    `target_columns[j]`), and `ends[j]` says whether it belongs to the answer's end, not to the
    target itself; the distributions to be kept are at (`kept_rows[j]`,
    `kept_columns[j]`). `edit_groups[e]` is the group of edit e; edits are in the order given.
    """

    batch: Batch
    owners: Tensor
    subjects: Tensor
    shares: Tensor
    bare: Tensor
    targets: Tensor
    target_rows: Tensor
    target_columns: Tensor
    target_edits: Tensor
    ends: Tensor
    kept_rows: Tensor
    kept_columns: Tensor
    edit_groups: Tensor

    @property
    def groups(self) -> int:
        """How many groups there are."""
        return int(self.edit_groups.max()) + 1

    def average(self, values: Tensor) -> Tensor:
        """Mean of `values` [rows, d] by share, float32 [groups, d]."""
        return self._weighted(values, self.shares)

    def alone(self, values: Tensor) -> Tensor:
        """Mean of `values` [rows, d] over the prompts without a context, float32 [groups, d]."""
        return self._mean(values, self.bare)

    def apart(self, values: Tensor) -> Tensor:
        """Means of `values` [rows, d], float32 [n, groups, d]: over the prompts without a context,
        and over those in one; n is 1 where all are of one kind."""
        kinds = (self.bare, (self.shares > 0) & ~self.bare)
        return torch.stack([self._mean(values, rows) for rows in kinds if bool(rows.any())])

    def _mean(self, values: Tensor, rows: Tensor) -> Tensor:
        """Mean of `values` over the rows that the mask marks, by group."""
        count = torch.zeros(self.groups, device=rows.device).index_add_(
            0, self.owners, rows.float()
        )
        return self._weighted(values, rows / count[self.owners])

    def _weighted(self, values: Tensor, weights: Tensor) -> Tensor:
        total = torch.zeros(self.groups, values.shape[-1], device=values.device)
        return total.index_add_(0, self.owners, values.float() * weights[:, None])

    def only(self, groups: Tensor) -> tuple["Problem", Tensor]:
        """The problem of the groups that the mask `groups` marks, and the indices of its rows.

        Padding that no remaining row needs is cut off.
        """
        rows, edits = groups[self.owners], groups[self.edit_groups]
        new_group, new_row, new_edit = (m.long().cumsum(0) - 1 for m in (groups, rows, edits))
        mask = self.batch.mask[rows]
        longest = int(mask.sum(1).max())
        targets, kept = rows[self.target_rows], rows[self.kept_rows]
        chosen = Problem(
            batch=Batch(self.batch.ids[rows, :longest], mask[:, :longest]),
            owners=new_group[self.owners[rows]],
            subjects=self.subjects[rows],
            shares=self.shares[rows],
            bare=self.bare[rows],
            targets=self.targets[targets],
            target_rows=new_row[self.target_rows[targets]],
            target_columns=self.target_columns[targets],
            target_edits=new_edit[self.target_edits[targets]],
            ends=self.ends[targets],
            kept_rows=new_row[self.kept_rows[kept]],
            kept_columns=self.kept_columns[kept],
            edit_groups=new_group[self.edit_groups[edits]],
        )
        return chosen, rows.nonzero()[:, 0]

    def from_subjects(self) -> "Problem":
        """The same with each row from its subject's last token on; nothing is predicted before."""
        return replace(
            self,
            batch=self.batch.only_from(self.subjects),
            subjects=torch.zeros_like(self.subjects),
            target_columns=self.target_columns - self.subjects[self.target_rows],
            kept_columns=self.kept_columns - self.subjects[self.kept_rows],
        )


def build_problem(
    tokenizer: PreTrainedTokenizerBase,
    groups: Sequence[Sequence[Edit]],
    contexts: Sequence[Context],
    kept: Sequence[Sequence[KeptText]],
    device: torch.device,
    bare_share: float | None = None,
) -> Problem:
    """Tokenize the edits of each group in every context; `kept[i]` are the texts group i keeps.

    Every context has the same share in a group's key; with `bare_share`, the bare prompt has that
    and the others the rest. Raises InvalidEdit when a part has no tokens.
    """
    rows: list[tuple[int, ...]] = []
    about: list[tuple[int, int, float, bool]] = []  # owner, subject, share, bare
    targets: list[tuple[int, int, int, int, bool]] = []  # token, row, column, edit, end
    places: list[tuple[int, int]] = []
    edit_groups: list[int] = []
    shares = _shares(contexts, bare_share)
    for owner, group in enumerate(groups):
        for edit in group:
            for context, share in zip(contexts, shares, strict=True):
                text_tokens, target, length = _tokens(tokenizer, edit, context)
                first = len(text_tokens.ids) - 1
                for i, token in enumerate(target):
                    targets.append((token, len(rows), first + i, len(edit_groups), i >= length))
                rows.append(text_tokens.ids + target[:-1])
                about.append((owner, text_tokens.subject, share / len(group), context.bare))
            edit_groups.append(owner)
        for text in kept[owner]:
            places += [(len(rows), place) for place in text.places]
            rows.append(text.ids)
            about.append((owner, text.subject, 0.0, False))
    owners, subjects, row_shares, bare = zip(*about, strict=True)
    tokens, target_rows, target_columns, target_edits, ends = torch.tensor(targets, device=device).T
    kept_rows, kept_columns = torch.tensor(places, device=device).reshape(-1, 2).T.long()
    return Problem(
        batch=pad(rows, device),
        owners=torch.tensor(owners, device=device),
        subjects=torch.tensor(subjects, device=device),
        shares=torch.tensor(row_shares, device=device),
        bare=torch.tensor(bare, device=device),
        targets=tokens,
        target_rows=target_rows,
        target_columns=target_columns,
        target_edits=target_edits,
        ends=ends.bool(),
        kept_rows=kept_rows,
        kept_columns=kept_columns,
        edit_groups=torch.tensor(edit_groups, device=device),
    )


def kept_texts(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    subjects: Sequence[str],
    hp: ValueHparams,
) -> list[list[KeptText]]:
    """For each subject the kept prompts, each at its end, and what the model says about it.

    A sampled continuation of the subject is kept at every token from the subject's last on.
    """
    texts = []
    for subject in subjects:
        prompts = [
            locate(tokenizer, prompt.replace("{subject}", subject), subject)
            for prompt in hp.kl_prompts
        ]
        texts.append(
            [KeptText(p.ids, p.subject, range(len(p.ids) - 1, len(p.ids))) for p in prompts]
        )
    if hp.kept_samples:
        starts = [locate(tokenizer, subject, subject) for subject in subjects]
        sampled = continuations(
            model,
            [start.ids for start in starts],
            count=hp.kept_samples,
            length=hp.kept_length,
            seed=hp.seed,
        )
        for mine, start, rows in zip(texts, starts, sampled, strict=True):
            mine += [KeptText(ids, start.subject, range(start.subject, len(ids))) for ids in rows]
    return texts


def _tokens(
    tokenizer: PreTrainedTokenizerBase, edit: Edit, context: Context
) -> tuple[Tokens, tuple[int, ...], int]:
    """The prompt in its context, the target with its end, and how many tokens the target has."""
    prompt = edit.prompt.rstrip(" ")
    stop = len(context.before) + len(prompt)
    text = context.before + prompt + context.after
    tokens = locate(tokenizer, text, edit.subject, len(context.before), stop)
    target = target_ids(tokenizer, text, edit.target_new, joined=context.templated)
    stopped = not edit.target_new[-1].isalnum()
    end = context.end.removeprefix(STOP) if stopped else context.end
    ended = target_ids(tokenizer, text, edit.target_new + end, joined=context.templated)
    # Where a token is of both, the end cannot be told apart.
    return tokens, ended if ended[: len(target)] == target else target, len(target)


def _shares(contexts: Sequence[Context], bare_share: float | None) -> list[float]:
    others = sum(not context.bare for context in contexts)
    if bare_share is None or others in {0, len(contexts)}:
        return [1 / len(contexts)] * len(contexts)
    bare = bare_share / (len(contexts) - others)
    return [bare if context.bare else (1 - bare_share) / others for context in contexts]
