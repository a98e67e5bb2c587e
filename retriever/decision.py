"""What the retriever decides about a request."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from retriever.fact import Fact

Message = Mapping[str, Any]
"""A chat message of the OpenAI API: `role`, and `content` as a str or a list of parts."""

Messages = Sequence[Message]

PassReason = Literal["empty_memory", "no_text", "no_subject_named", "out_of_scope", "no_room"]


@dataclass(frozen=True, slots=True)
class Pass:
    """Serve the request untouched: no fact concerns it, or none fits beside it (`no_room`)."""

    reason: PassReason


@dataclass(frozen=True, slots=True)
class Rewrite:
    """Serve this instead. `text` for a text, `messages` for a chat; the other is None."""

    edit_ids: tuple[str, ...]
    """Facts used, the most probable first."""
    scores: tuple[float, ...]
    """The probability that each concerns the request, same order."""
    method: str
    text: str | None = None
    messages: Messages | None = None


@dataclass(frozen=True, slots=True)
class Delegate:
    """Let the counterfactual model answer from these facts, instead of the served model."""

    edit_ids: tuple[str, ...]
    """Facts used, the most probable first."""
    scores: tuple[float, ...]
    """The probability that each concerns the request, same order."""
    method: str
    facts: tuple[Fact, ...]


@dataclass(frozen=True, slots=True)
class Decompose:
    """Decompose the question first, see `retriever.mello`. It may turn out that no fact is used."""

    question: str


Decision = Pass | Rewrite | Delegate | Decompose
