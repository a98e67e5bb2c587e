"""What the retriever decides about a request."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from retriever.fact import Fact

Message = Mapping[str, Any]
"""A chat message of the OpenAI API: `role`, and `content` as a str or a list of parts."""

Messages = Sequence[Message]

PassReason = Literal["empty_memory", "no_text", "no_subject_named", "out_of_scope"]


@dataclass(frozen=True, slots=True)
class Pass:
    """No fact concerns the request: serve it untouched. Only `out_of_scope` used a model."""

    reason: PassReason


@dataclass(frozen=True, slots=True)
class Rewrite:
    """Serve this instead. `text` for a text, `messages` for a chat; the other is None."""

    edit_ids: tuple[str, ...]
    """Facts used, the surest first."""
    scores: tuple[float, ...]
    """The probability that each concerns the request, same order."""
    method: str
    text: str | None = None
    messages: Messages | None = None


@dataclass(frozen=True, slots=True)
class Delegate:
    """Let the counterfactual model answer from these facts, in the place of the served one."""

    edit_ids: tuple[str, ...]
    """Facts used, the surest first."""
    scores: tuple[float, ...]
    """The probability that each concerns the request, same order."""
    method: str
    facts: tuple[Fact, ...]


@dataclass(frozen=True, slots=True)
class Decompose:
    """Take the question apart first: `retriever.mello` says how. No fact may come of it."""

    question: str


Decision = Pass | Rewrite | Delegate | Decompose
