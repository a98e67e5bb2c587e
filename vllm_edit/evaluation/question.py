"""What a model is asked, and what it says."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

MAX_TOKENS = 24
"""Of an answer."""

TOP = 20
"""As many log-probabilities of a next token as vLLM gives without further flags."""

FLUENCY: Mapping[str, Any] = {"max_tokens": 100, "temperature": 1.0, "top_k": 5}
"""As ROME samples the text whose fluency it measures, to the full length."""

Ids = tuple[int, ...]


@dataclass(frozen=True)
class Question:
    """A prompt, and the answer that the model is forced to give behind it.

    ``hops`` asks for it to be taken apart, by methods that can do that.
    """

    prompt: str
    target: str
    hops: bool = False


@dataclass(frozen=True)
class Forced:
    """A target's token ids, the greedy ones at their positions, and the mean of -log p."""

    target: Ids
    greedy: Ids
    nll: float


@dataclass(frozen=True)
class Answer:
    """`forced` is None where another model answered, whose likelihoods cannot be had."""

    generated: str
    forced: Forced | None


Answers = Mapping[Question, Answer]


def joined_text(question: Question) -> str:
    """The prompt with the target behind it."""
    space = "" if question.prompt[-1:].isspace() else " "
    return f"{question.prompt}{space}{question.target}"


def seam(served: Ids, alone: Ids, whole: Ids) -> tuple[Ids, Ids]:
    """What was served, and the target's tokens behind it.

    `alone` is the prompt and `whole` the prompt with the target, tokenized; the target's tokens
    are those by which the one is longer. Where tokens merge at the seam, the prompt's last ones
    give way.
    """
    same = _common(alone, whole)
    return served[: len(served) - (len(alone) - same)], whole[same:]


def _common(first: Sequence[int], second: Sequence[int]) -> int:
    """How many tokens both begin with."""
    pairs = zip(first, second, strict=False)
    return next((n for n, (a, b) in enumerate(pairs) if a != b), min(len(first), len(second)))
