"""Settings of MeLLo."""

from dataclasses import dataclass
from typing import Literal

from retriever.errors import InvalidSettingsError

Questions = Literal["named", "all", "asked"]


@dataclass(frozen=True, slots=True)
class MelloSettings:
    """Raises `InvalidSettingsError` for a value outside its range."""

    questions: Questions = "asked"
    """Which questions are decomposed if no fact is in scope of the question itself. named: those
    that name the subject of a MeLLo fact. all: every one. asked: only if the request says so."""
    max_hops: int = 4
    """Maximum number of subquestions per question."""
    hop_tokens: int = 64
    """Maximum number of tokens that the model writes per hop."""
    max_question: int = 500
    """Longest question, in characters, that is decomposed if the request does not say so."""

    def __post_init__(self) -> None:
        if self.questions not in ("named", "all", "asked"):
            raise InvalidSettingsError(
                f"`questions` is named, all or asked; got {self.questions!r}."
            )
        for name in ("max_hops", "hop_tokens", "max_question"):
            if getattr(self, name) < 1:
                raise InvalidSettingsError(f"`{name}` must be at least 1.")
