"""Documents as rows of tokens, with attention masks and loss weights."""

import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property

import torch
from tokenizers import Tokenizer

from vllm_edit.factworld import protocol
from vllm_edit.factworld.documents import Document, Span

BEFORE, NAME, LAST, AFTER = range(4)
POSITIONS = 1024


class Pieces:
    """Token ids of span texts, cached. Joined, they are the tokens of the joined text."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._lead = self._encode("x")
        self._cache = {
            token: tokenizer.encode(token, add_special_tokens=False).ids
            for token in protocol.SPECIAL_TOKENS
        }

    def _encode(self, text: str) -> list[int]:
        ids: list[int] = self._tokenizer.encode(text, add_special_tokens=False).ids
        return ids

    def __call__(self, text: str) -> list[int]:
        if text not in self._cache:
            self._cache[text] = self._encode("x" + text)[len(self._lead) :]
        return self._cache[text]


COLUMNS = (
    "ids", "positions", "branch", "naming", "role", "late", "alone", "frozen", "weight",
    "same", "source",
)  # fmt: skip


@dataclass
class TrainingBatch:
    """Rows of equal length T; every field is [rows, T].

    `branch` is 0 in the prefix, -1 in padding. `naming` numbers the subject mentions of a row.
    `role` is the token's place relative to its mention (BEFORE, NAME, LAST, AFTER).

    `late`: the token can attend to the subject only at the subject's last token, and only from
    layer BEFORE_READING on. `alone`: the subject cannot attend to earlier tokens of its branch.
    `frozen`: the MLPs of the reading layers add nothing to the token.

    `weight` is the loss weight of predicting the token itself. `same` is set at a subject's
    last token: the position in the prefix where it is also named. `source` is set at the token
    before an answer: the position in the prefix where the answer is given. Both are 0 if the
    prefix has no such position, and -1 at all other tokens. `edited` batches hold edited documents.
    """

    ids: torch.Tensor
    positions: torch.Tensor
    branch: torch.Tensor
    naming: torch.Tensor
    role: torch.Tensor
    late: torch.Tensor
    alone: torch.Tensor
    frozen: torch.Tensor
    weight: torch.Tensor
    same: torch.Tensor
    source: torch.Tensor
    edited: bool

    def to(self, device: str) -> "TrainingBatch":
        return self._each(lambda tensor: tensor.to(device))

    def head(self, length: int) -> "TrainingBatch":
        """The first tokens of every row, with loss on the first branch only."""
        cut = self._each(lambda tensor: tensor[:, :length])
        cut.weight = cut.weight * (cut.branch == 1)
        return cut

    def _each(self, change: Callable[[torch.Tensor], torch.Tensor]) -> "TrainingBatch":
        tensors = {name: change(getattr(self, name)) for name in COLUMNS}
        return TrainingBatch(**tensors, edited=self.edited)

    @cached_property
    def masks(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Attention masks below layer BEFORE_READING and from it on, bool [rows, 1, T, T] each."""
        length = self.ids.shape[1]
        here, there = self.branch[:, :, None], self.branch[:, None, :]
        causal = torch.ones(length, length, dtype=torch.bool, device=self.ids.device).tril()
        seen = causal & ((there == 0) | (there == here))
        role = self.role[:, None, :]
        after = (self.late & (self.role == AFTER))[:, :, None]
        after = after & (self.naming[:, :, None] == self.naming[:, None, :])
        named = (self.role == NAME) | (self.role == LAST)
        alone = (self.alone & named)[:, :, None] & (there == here) & (role == BEFORE)
        late = seen & ~(after & (role == NAME)) & ~alone
        early = late & ~(after & (role == LAST))
        own = torch.eye(length, dtype=torch.bool, device=self.ids.device)
        return (early | own)[:, None], (late | own)[:, None]


class TrainingRow:
    """One document, cut to `length` tokens: the prefix and as many branches as fit."""

    def __init__(self, document: Document, pieces: Pieces, rng: random.Random, length: int) -> None:
        self._pieces = pieces
        self._length = length
        self._tokens: list[list[float]] = []
        self._mentions = 0
        self._matched = document.matched
        self._named: dict[str, int] = {}
        self._given: list[tuple[str, str, int]] = []
        # A gap after BOS trains every position up to POSITIONS.
        self._gap = rng.randrange(POSITIONS - length) if rng.random() < 0.2 else 0
        shared = self._spans(document.prefix, 0, 0, (False, False, False))
        self._tokens += shared
        start = len(shared)
        for number, spans in enumerate(document.branches, start=1):
            branch = self._spans(spans, number, start, self._lesson(document, rng))
            if len(self._tokens) + len(branch) <= length or number == 1:
                self._tokens += branch
            elif len(self._tokens) + 8 > length:
                break

    def _lesson(self, document: Document, rng: random.Random) -> tuple[bool, bool, bool]:
        if not document.localise:
            return False, False, False
        if not document.recall:
            return rng.random() < 0.1, False, False
        late = rng.random() < 0.88
        return late, late and rng.random() < 0.75, late

    def _spans(
        self, spans: list[Span], branch: int, start: int, lesson: tuple[bool, bool, bool]
    ) -> list[list[float]]:
        late, alone, frozen = lesson
        tokens: list[list[float]] = []
        role, naming, name = BEFORE, 0, ""
        for text, weight, kind in spans:
            ids = self._pieces(text)
            if kind == "subject":
                self._mentions += 1
                naming, role, name = self._mentions, NAME, text
            elif kind == "given subject":
                name = text
            elif kind == "given answer" and branch == 0:
                self._given.append((name, text, start + len(tokens)))
            elif kind == "answer" and self._matched and branch and tokens:
                tokens[-1][-1] = self._find(name, text)
            for index, token in enumerate(ids):
                last = kind == "subject" and index == len(ids) - 1
                role = LAST if last else role
                place = start + len(tokens)
                position = place + self._gap if place else 0
                same = self._find(name) if last and self._matched and branch else -1
                tokens.append(
                    [token, position, branch, naming, role, late, alone,
                     frozen and role != BEFORE, weight, same, -1]
                )  # fmt: skip
            if kind == "subject":
                role = AFTER
            elif kind == "given subject" and branch == 0:
                self._named[name] = start + len(tokens) - 1
            elif kind == "answer":
                role, naming = BEFORE, 0
        return tokens

    def _find(self, name: str, answer: str | None = None) -> int:
        """Position in the prefix of the subject, or of the answer given for it; 0 if absent."""
        if answer is None:
            return self._named.get(name, 0)
        return max((at for n, a, at in self._given if (n, a) == (name, answer)), default=0)

    def columns(self) -> list[list[float]]:
        """The columns of the row, padded to its length, in the order of COLUMNS."""
        padding: list[float] = [0, 0, -1, 0, 0, False, False, False, 0.0, -1, -1]
        tokens = self._tokens[: self._length]
        tokens = tokens + [padding] * (self._length - len(tokens))
        return [list(column) for column in zip(*tokens, strict=True)]


def batch(
    documents: Iterable[Document], pieces: Pieces, rng: random.Random, length: int
) -> TrainingBatch:
    """The documents as one batch of rows of `length` tokens."""
    rows = [TrainingRow(document, pieces, rng, length).columns() for document in documents]
    columns = {
        name: torch.tensor([row[index] for row in rows]) for index, name in enumerate(COLUMNS)
    }
    return TrainingBatch(**columns, edited=False)
