"""Facts that a model may know, and how probable it finds their answers."""

from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from weight_patchers.errors import InvalidEdit
from weight_patchers.model.batch import pad
from weight_patchers.model.suffix import logits_at
from weight_patchers.model.tokenization import encode, locate, target_ids


@dataclass(frozen=True)
class KnownFact:
    """After `prompt`, which contains `subject` literally, a model that knows it says `answer`.

    Raises InvalidEdit when a field is blank or the subject is not part of the prompt.
    """

    prompt: str
    subject: str
    answer: str

    def __post_init__(self) -> None:
        for field in ("prompt", "subject", "answer"):
            if not getattr(self, field).strip():
                raise InvalidEdit(f"{field} is empty: give a text with at least one visible letter")
        object.__setattr__(self, "subject", self.subject.strip())
        object.__setattr__(self, "answer", self.answer.strip())
        if self.subject not in self.prompt:
            raise InvalidEdit(
                f"the prompt {self.prompt!r} does not contain the subject {self.subject!r}: "
                "write the subject in the prompt exactly as in the subject field"
            )


@dataclass(frozen=True)
class Statement:
    """A fact as tokens: `ids` are prompt and answer without the answer's last token, and the
    indices of the subject's first and last token and of the prompt's last one."""

    ids: tuple[int, ...]
    answer: tuple[int, ...]
    subject_first: int
    subject_last: int
    prompt_last: int


def state(tokenizer: PreTrainedTokenizerBase, fact: KnownFact) -> Statement:
    """Tokenize a fact. Raises InvalidEdit when a part has no tokens, UnsupportedTokenizer
    without offsets."""
    prompt = fact.prompt.rstrip(" ")
    tokens = locate(tokenizer, prompt, fact.subject)
    _, offsets = encode(tokenizer, prompt)
    # The occurrence that ends in or before the subject's last token is the one that counts.
    left = prompt.rfind(fact.subject, 0, offsets[tokens.subject][1])
    inside = [i for i in range(tokens.subject) if offsets[i][1] > left >= 0]
    answer = target_ids(tokenizer, prompt, fact.answer)
    return Statement(
        ids=tokens.ids + answer[:-1],
        answer=answer,
        subject_first=min(inside, default=tokens.subject),
        subject_last=tokens.subject,
        prompt_last=len(tokens.ids) - 1,
    )


def probabilities(model: PreTrainedModel, statement: Statement, rows: int) -> Tensor:
    """The whole answer's probability in each of `rows` equal rows, float32 [rows] on the CPU.

    Hooks may make the rows differ.
    """
    logits = _logits(model, statement, rows).float()
    answer = torch.tensor(statement.answer, device=logits.device).expand(rows, -1)
    scores = logits.log_softmax(-1).gather(-1, answer[..., None])
    return scores.sum((1, 2)).exp().cpu()


def recalls(model: PreTrainedModel, statement: Statement) -> bool:
    """Whether greedy decoding gives the answer after the prompt."""
    return tuple(_logits(model, statement, 1)[0].argmax(-1).tolist()) == statement.answer


def _logits(model: PreTrainedModel, statement: Statement, rows: int) -> Tensor:
    """Logits [rows, answer tokens, vocabulary] where the answer's tokens are predicted."""
    count = len(statement.answer)
    batch = pad([statement.ids] * rows, model.device)
    row = torch.arange(rows, device=model.device).repeat_interleave(count)
    column = statement.prompt_last + torch.arange(count, device=model.device).repeat(rows)
    return logits_at(model, batch, row, column).reshape(rows, count, -1)
