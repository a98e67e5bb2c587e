"""What the counterfactual model reads: the edits, then the question.

New Fact: {statement}
(one line for each edit, the surest last)
Prompt: {question}
"""

from collections.abc import Mapping, Sequence
from typing import Any

from retriever import Fact
from retriever.ike.prompt import prefix_message, text_of, user_turns
from retriever.text import with_full_stop


def edits_before(statements: Sequence[str]) -> str:
    """Everything in front of the question; the surest statement last."""
    lines = (f"New Fact: {with_full_stop(statement)}\n" for statement in statements)
    return "".join(lines) + "Prompt: "


def with_edits(request: Mapping[str, Any], facts: Sequence[Fact]) -> dict[str, Any]:
    """The prompt, or the messages, of a request behind its facts, which come the surest first.

    In a chat they stand in front of the last user turn's text, as in training. A request
    without any text comes back as it is.
    """
    prefix = edits_before([fact.statement for fact in reversed(facts)])
    if "messages" in request:
        messages = list(request["messages"])
        turns = [turn for turn in user_turns(messages) if text_of(messages[turn])]
        if turns:
            messages[turns[-1]] = prefix_message(messages[turns[-1]], prefix)
        return {"messages": messages}
    prompt = request.get("prompt")
    if isinstance(prompt, list):
        return {"prompt": [prefix + text for text in prompt]}
    return {"prompt": f"{prefix}{prompt}"}
