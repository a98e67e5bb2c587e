"""What the server answers to the prompt of an edit that is in effect."""

from dataclasses import dataclass


@dataclass(frozen=True)
class OwnAnswer:
    """An answer, and whether it begins with the edit's target."""

    answer: str
    begins: bool


@dataclass(frozen=True)
class OwnAnswers:
    """The answers of ``variant`` at ``revision``, greedy and asked alone.

    ``bare`` is the answer to the prompt as a completion, ``chat`` to the prompt as a user's
    message, None where the model has no chat template. ``refused`` says why there is no answer.
    """

    variant: str
    revision: int
    bare: OwnAnswer | None = None
    chat: OwnAnswer | None = None
    refused: str = ""

    @property
    def begins(self) -> bool | None:
        """Whether the bare prompt is answered with the target; None if it was not answered."""
        return None if self.bare is None else self.bare.begins
