"""Where edits of one method are made and judged, whatever serves the model."""

from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol

from vllm_edit.evaluation.question import Answers, Question
from vllm_edit.evaluation.record import RequestedRewrite


@dataclass(frozen=True)
class AppliedEdits:
    """How long it took from the request until all were active, and which of them failed."""

    seconds: float
    edits: int
    failures: tuple[str, ...]


class Model(Protocol):
    """What can be asked; the edits in effect shape every answer. Raises EditError."""

    def ask(self, questions: Iterable[Question]) -> Answers:
        """Every question answered, each prompt generated from once."""

    def top(self, prompts: Sequence[str]) -> list[dict[int, float]]:
        """The likeliest next tokens of each prompt with their log-probabilities."""

    def again(
        self, prompts: Sequence[str], before: Sequence[Mapping[int, float]]
    ) -> list[dict[int, float]]:
        """The log-probabilities of each prompt's tokens of before, as they are now."""

    def write(self, prompts: Sequence[str], seed: int) -> list[str]:
        """Sampled text behind each prompt, the prompt included."""


class EditApplier(Protocol):
    """Brings edits of one method into effect, and takes them back."""

    def apply(self, rewrites: Sequence[RequestedRewrite]) -> AppliedEdits:
        """Bring edits into effect together, on top of those before; within `clean_state`.

        Raises:
            InvalidEdit: one is refused, and none is in effect.
            EditError: it cannot be done.
        """

    def clean_state(self) -> AbstractContextManager[None]:
        """Edits applied inside are in effect inside only."""


@dataclass(frozen=True)
class EditableModel:
    """A model and the way to edit it; `pid` is that of what holds them, if it is to be watched."""

    model: Model
    editing: EditApplier
    pid: int | None


class Target(Protocol):
    """What is judged; `name` is the same for the same thing."""

    @property
    def name(self) -> str: ...

    def site(self, method: str) -> AbstractContextManager[EditableModel]:
        """A site with no edits in effect, for one method. Raises EditError."""
