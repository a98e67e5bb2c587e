"""How feedback is put in front of a request."""

from collections.abc import Sequence

from retriever.decision import Messages, Rewrite
from retriever.ike.prompt import prefix_message, text_of, user_turns
from retriever.memprompt.feedback import Recalled


def question_of(request: str | Messages) -> str:
    """A text, or the last user turn's; nothing where there is none."""
    if isinstance(request, str):
        return request
    turns = user_turns(request)
    return text_of(request[turns[-1]]) if turns else ""


def clarified(recalled: Sequence[Recalled], request: str | Messages) -> Rewrite:
    """The request, whose question is not empty, behind a line for each of the feedback."""
    lines = "".join(f"Clarification: {feedback.text}\n" for feedback, _ in recalled)
    ids = tuple(feedback.id for feedback, _ in recalled)
    scores = tuple(score for _, score in recalled)
    if isinstance(request, str):
        return Rewrite(ids, scores, "memprompt", text=lines + request)
    messages, last = list(request), user_turns(request)[-1]
    messages[last] = prefix_message(messages[last], lines)
    return Rewrite(ids, scores, "memprompt", messages=tuple(messages))
