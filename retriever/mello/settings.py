"""Settings of MeLLo."""

from dataclasses import dataclass
from typing import Literal

from retriever.errors import InvalidSettingsError

Questions = Literal["named", "all", "asked"]


@dataclass(frozen=True, slots=True)
class MelloSettings:
    """Raises `InvalidSettingsError` for a value outside its range."""

    questions: Questions = "asked"
    """Which questions are taken apart, where no fact is in scope of the question itself: those
    that name the subject of a fact of the method; all; or only where the request asks for it."""
    max_hops: int = 4
    """Most subquestions of one question."""
    hop_tokens: int = 64
    """Most tokens that the model writes for one hop."""
    max_question: int = 500
    """Longest question, in characters, that is taken apart without being asked to."""

    def __post_init__(self) -> None:
        if self.questions not in ("named", "all", "asked"):
            raise InvalidSettingsError(
                f"`questions` is named, all or asked; got {self.questions!r}."
            )
        for name in ("max_hops", "hop_tokens", "max_question"):
            if getattr(self, name) < 1:
                raise InvalidSettingsError(f"`{name}` must be at least 1.")
