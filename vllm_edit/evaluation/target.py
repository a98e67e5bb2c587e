"""The editable model of an evaluation, in a server or in this process."""

from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol

from vllm_edit.evaluation.question import Answers, Question
from vllm_edit.evaluation.record import RequestedRewrite


@dataclass(frozen=True)
class AppliedEdits:
    """Seconds from the request until all edits were active, and a sentence for each failed one."""

    seconds: float
    edits: int
    failures: tuple[str, ...]


class Model(Protocol):
    """A model whose answers depend on the edits in effect. Raises EditError."""

    @property
    def can_chat(self) -> bool:
        """Whether it has a chat template, so that questions of a chat can be asked."""

    def answer(self, questions: Iterable[Question]) -> Answers:
        """Answer every question; each prompt is generated from once."""

    def top_logprobs(self, prompts: Sequence[str]) -> list[dict[int, float]]:
        """For each prompt, the likeliest next tokens with their log-probabilities."""

    def logprobs_of(
        self, prompts: Sequence[str], tokens: Sequence[Iterable[int]]
    ) -> list[dict[int, float]]:
        """For each prompt, the log-probabilities of these next tokens."""

    def sample(self, prompts: Sequence[str], seed: int) -> list[str]:
        """Each prompt followed by sampled text."""


class EditApplier(Protocol):
    """Applies edits of one method and rolls them back."""

    def expect(self, singles: Sequence[Sequence[RequestedRewrite]]) -> None:
        """These will be applied one by one, each in a clean state; they may be made together."""

    def apply(self, rewrites: Sequence[RequestedRewrite]) -> AppliedEdits:
        """Apply edits together, on top of earlier ones. Call it within `clean_state`.

        Raises:
            InvalidEdit: an edit is refused; none of them is in effect.
            EditError: the edits cannot be applied.
        """

    def clean_state(self) -> AbstractContextManager[None]:
        """Edits applied in this context are rolled back at its end."""


@dataclass(frozen=True)
class EditableModel:
    """A model and its edit applier. `pid`: the process whose memory is measured, if known.

    `steady`: unedited, it gives the same answers every time it is opened, so one set is enough.
    """

    model: Model
    applier: EditApplier
    pid: int | None
    steady: bool = False


class Target(Protocol):
    """The evaluated system. Targets with the same name can resume each other's runs."""

    @property
    def name(self) -> str: ...

    def open(self, method: str) -> AbstractContextManager[EditableModel]:
        """A model without edits, for one method. Raises EditError."""
