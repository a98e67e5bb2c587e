"""What the retriever decides about a request."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

Message = Mapping[str, Any]
"""A chat message of the OpenAI API: `role`, and `content` as a str or a list of parts."""

Messages = Sequence[Message]

PassReason = Literal["empty_memory", "no_text", "no_subject_named", "out_of_scope"]


@dataclass(frozen=True, slots=True)
class Pass:
    """No fact concerns the request: serve it untouched. Only `out_of_scope` used the encoder."""

    reason: PassReason


@dataclass(frozen=True, slots=True)
class Rewrite:
    """Serve this instead. `text` for a text, `messages` for a chat; the other is None."""

    edit_ids: tuple[str, ...]
    """Facts used, most similar first."""
    scores: tuple[float, ...]
    """Cosine of each, same order."""
    method: str
    text: str | None = None
    messages: Messages | None = None
