"""Puts feedback in front of a request."""

from collections.abc import Sequence

from retriever.decision import Messages, Rewrite
from retriever.ike.prompt import prefix_message, user_turns
from retriever.memprompt.feedback import Recalled


def clarification(recalled: Sequence[Recalled]) -> str:
    """What is put in front of a request: a line per feedback."""
    return "".join(f"Clarification: {feedback.text}\n" for feedback, _ in recalled)


def clarified(recalled: Sequence[Recalled], request: str | Messages) -> Rewrite:
    """Put the feedback in front of the request, whose question must not be empty."""
    lines = clarification(recalled)
    ids = tuple(feedback.id for feedback, _ in recalled)
    scores = tuple(score for _, score in recalled)
    if isinstance(request, str):
        return Rewrite(ids, scores, "memprompt", text=lines + request)
    messages, last = list(request), user_turns(request)[-1]
    messages[last] = prefix_message(messages[last], lines)
    return Rewrite(ids, scores, "memprompt", messages=tuple(messages))
