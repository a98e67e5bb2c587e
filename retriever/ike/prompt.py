"""The in-context format of IKE: demonstrations, new facts, then the request itself.

New Fact: {statement}
Prompt: {prompt} {answer}.
(blank line; as many as there are demonstrations)
New Fact: {statement}
(one line for each fact in scope, the most similar last)
Prompt: {the request}
"""

from collections.abc import Sequence

from retriever.decision import Message, Messages
from retriever.fact import Fact
from retriever.ike.demonstrations import Demonstration
from retriever.text import with_full_stop


def preamble(demonstrations: Sequence[Demonstration], facts: Sequence[Fact]) -> str:
    """Everything in front of the request. `facts` in the order in which they appear."""
    return shown_facts(demonstrations, facts) + "Prompt: "


def shown_facts(demonstrations: Sequence[Demonstration], facts: Sequence[Fact]) -> str:
    """The same without the request's label, for a system message."""
    examples = "".join(
        f"New Fact: {with_full_stop(d.new_fact)}\n"
        f"Prompt: {with_full_stop(f'{d.prompt} {d.answer}')}\n\n"
        for d in demonstrations
    )
    return examples + "".join(f"New Fact: {fact.statement}\n" for fact in facts)


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

    With content in parts, the first text part takes the prefix.
    """
    content = message["content"]
    if isinstance(content, str):
        return {**message, "content": prefix + content}
    parts = list(content)
    first = next(i for i, part in enumerate(parts) if _is_text(part))
    parts[first] = {**parts[first], "text": prefix + parts[first]["text"]}
    return {**message, "content": parts}


def _is_text(part: object) -> bool:
    return (
        isinstance(part, dict)
        and part.get("type") in ("text", "input_text")
        and isinstance(part.get("text"), str)
    )
