"""The in-context format of IKE: demonstrations, facts, then the request itself.

With the labels of the original (Zheng et al. 2023), other forms see `PromptForm`:

New Fact: {statement}
Prompt: {prompt} {answer}.
(blank line; as many as there are demonstrations)
New Fact: {statement}
(one line for each fact in scope, the most similar last)
Prompt: {the request}
"""

from collections.abc import Sequence

from retriever.continuation import continue_with
from retriever.decision import Message, Messages
from retriever.fact import Fact
from retriever.ike.demonstrations import Demonstration
from retriever.ike.prompt_form import PromptForm
from retriever.text import names, sentence_bounds, with_full_stop

RESTATED = 400
"""At most this many characters of a request are restated, the last ones."""

_STATEMENT_ENDS = (".", "!", "\u3002", "\uff01")


def demonstrated(form: PromptForm, demonstrations: Sequence[Demonstration]) -> str:
    """Demonstrations, each followed by a blank line."""
    return "".join(f"{_demonstration(form, each)}\n\n" for each in demonstrations)


def shown_facts(form: PromptForm, facts: Sequence[Fact], again: str | None) -> str:
    """The lines of the facts, the best of which comes first in `facts` and last in the text.

    `again` is what `restated` gives for the best; None leaves it out.
    """
    lines = [fact.statement for fact in reversed(facts[1:])]
    lines += _shown(form, facts[0].statement, again)
    return "".join(f"{form.fact_label}{line}\n" for line in lines)


def restated(request: str, fact: Fact) -> str | None:
    """The request's last sentence that names the subject and what follows, then the answer.

    A small model gives the answer that it has just read behind the same words. None for a request
    that neither asks nor breaks off, which the answer would not continue.
    """
    tail = request.strip()
    if not tail or tail.endswith(_STATEMENT_ENDS):
        return None
    if len(tail) > RESTATED:
        tail = tail[-RESTATED:]
        tail = tail.partition(" ")[2] or tail  # a script without spaces has no other place to cut
    starts = sentence_bounds(tail)[:-1]
    known = (fact.subject, *fact.aliases)
    naming = [at for at in starts if any(names(tail[at:], name) for name in known)]
    return with_full_stop(continue_with(tail[(naming or starts)[-1] :], fact.target_new))


def _demonstration(form: PromptForm, demonstration: Demonstration) -> str:
    answered = with_full_stop(continue_with(demonstration.prompt, demonstration.answer))
    start = sentence_bounds(demonstration.prompt)[-2]
    # What is retained is about something else: no fact restates it.
    again = None if demonstration.kind == "retain" else answered[start:]
    lines = _shown(form, with_full_stop(demonstration.new_fact), again)
    facts = "".join(f"{form.fact_label}{line}\n" for line in lines)
    return f"{facts}{form.request_label}{answered}"


def _shown(form: PromptForm, statement: str, again: str | None) -> list[str]:
    """The lines of one fact, without those that there is no text for."""
    lines = [statement if part == "fact" else again for part in form.shown]
    return [line for line in lines if line] or [statement]


def user_turns(messages: Messages) -> list[int]:
    """Positions of the messages whose role is `user`."""
    return [at for at, message in enumerate(messages) if message.get("role") == "user"]


def text_of(message: Message) -> str:
    """The message's text: its content, or its text parts joined by newlines."""
    content = message.get("content")
    if isinstance(content, str):
        return content
    if not isinstance(content, Sequence):
        return ""
    return "\n".join(part["text"] for part in content if _is_text(part))


def prefix_message(message: Message, prefix: str) -> Message:
    """The message with the prefix in front of its text; everything else stays as it was.

    With content in parts, the first text part takes the prefix. Without any text the prefix
    becomes the text. Content that is neither, which every server refuses, stays as it is.
    """
    content = message.get("content")
    if content is None or isinstance(content, str):
        return {**message, "content": prefix + (content or "")}
    if not isinstance(content, Sequence):
        return message
    parts = list(content)
    first = next((i for i, part in enumerate(parts) if _is_text(part)), None)
    if first is None:
        return {**message, "content": [{"type": "text", "text": prefix}, *parts]}
    parts[first] = {**parts[first], "text": prefix + parts[first]["text"]}
    return {**message, "content": parts}


def _is_text(part: object) -> bool:
    return (
        isinstance(part, dict)
        and part.get("type") in ("text", "input_text")
        and isinstance(part.get("text"), str)
    )
