"""Questions to a model, its answers, and the tokens of forced targets."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from weight_patchers.continuation import continue_with

MAX_TOKENS = 24
"""Longest generated answer, unless the run names another length."""

TOP = 20
"""The most log-probabilities per token that vLLM returns by default."""

FLUENCY: Mapping[str, Any] = {"max_tokens": 100, "temperature": 1.0, "top_k": 5}
"""ROME's sampling of the text whose fluency it measures."""

Ids = tuple[int, ...]


@dataclass(frozen=True)
class Question:
    """A prompt, and the target that is forced after it.

    With `hops`, methods that can decompose a question may do so. With `chat`, the prompt is sent
    as a user's message, and nothing is forced.
    """

    prompt: str
    target: str
    hops: bool = False
    chat: bool = False


@dataclass(frozen=True)
class Forced:
    """A target's token ids, the greedy ones at their positions, and the mean of -log p."""

    target: Ids
    greedy: Ids
    nll: float


@dataclass(frozen=True)
class Answer:
    """`forced` is None if it is not available: another model answered, or it is a chat.

    `tokens` are those of the generated text; None if the server does not tell them.
    """

    generated: str
    forced: Forced | None
    tokens: Ids | None = None


Answers = Mapping[Question, Answer]


def joined_text(question: Question) -> str:
    """The prompt followed by the target."""
    return continue_with(question.prompt, question.target)


def seam(served: Ids, alone: Ids, whole: Ids) -> tuple[Ids, Ids]:
    """The served ids of the prompt, and the ids of the target after them.

    `alone` and `whole` are the tokens of the prompt without and with the target. The target begins
    after their common prefix, so it includes prompt tokens that merge with it.
    """
    same = common_length(alone, whole)
    return served[: len(served) - (len(alone) - same)], whole[same:]


def common_length(first: Sequence[int], second: Sequence[int]) -> int:
    """The length of the common prefix."""
    pairs = zip(first, second, strict=False)
    return next((n for n, (a, b) in enumerate(pairs) if a != b), min(len(first), len(second)))
