"""The counterfactual model's prompt: the edits, then the question.

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
    """The text in front of the question. The surest statement comes last."""
    lines = (f"New Fact: {with_full_stop(statement)}\n" for statement in statements)
    return "".join(lines) + "Prompt: "


def with_edits(request: Mapping[str, Any], facts: Sequence[Fact]) -> dict[str, Any]:
    """The prompt or the messages of a request, with its facts in front. The surest comes first.

    In a chat the facts go in front of the text of the last user turn, as in training. A request
    without any text stays as it is.
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
