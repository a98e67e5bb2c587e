"""The facts that concern a request, put in front of it."""

from collections.abc import Mapping
from typing import Any

from retriever import Rewrite
from vllm_edit.memory import MemoryMethod


async def with_facts(
    request: Mapping[str, Any], memory: MemoryMethod, variant: str
) -> tuple[dict[str, Any], list[Rewrite]]:
    """The request with the variant's facts in front, and what was put there."""
    used: list[Rewrite] = []

    async def routed(content: Any) -> Any:
        decision = await memory.route(content, variant)
        if not isinstance(decision, Rewrite):
            return content
        used.append(decision)
        return decision.text if decision.messages is None else decision.messages

    changed = dict(request)
    prompt = request.get("prompt")
    if _is_chat(request.get("messages")):
        changed["messages"] = await routed(request["messages"])
    elif isinstance(prompt, str):
        changed["prompt"] = await routed(prompt)
    elif isinstance(prompt, list) and all(isinstance(item, str) for item in prompt):
        changed["prompt"] = [await routed(item) for item in prompt]
    return changed, used


def _is_chat(messages: object) -> bool:
    return isinstance(messages, list) and all(isinstance(turn, dict) for turn in messages)
