"""Server-sent events of OpenAI's API: one JSON object each, and [DONE] at the end."""

import json
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from typing import Any

import httpx
from httpx_sse import EventSource

from vllm_edit.serac.errors import unreadable_answer

DONE = b"data: [DONE]\n\n"


def encode_event(content: Mapping[str, Any]) -> bytes:
    """The bytes of an event."""
    return b"data: " + json.dumps(content, ensure_ascii=False).encode() + b"\n\n"


def with_model_name(content: Mapping[str, Any], name: str) -> dict[str, Any]:
    """A copy in which `name` replaces the model's name, if there is one."""
    return {**content, "model": name} if "model" in content else dict(content)


async def read_events(response: httpx.Response) -> AsyncGenerator[dict[str, Any]]:
    """The events of an event stream up to [DONE] or its end.

    Raises:
        CounterfactualFailed: an event is not one of OpenAI's API.
    """
    async with aclosing(EventSource(response).aiter_sse()) as events:
        async for event in events:
            if event.data == "[DONE]":
                return
            if event.data:
                yield _parse(event.data)


def _parse(data: str) -> dict[str, Any]:
    try:
        content = json.loads(data)
    except ValueError as error:
        raise unreadable_answer() from error
    if not isinstance(content, dict):
        raise unreadable_answer()
    return content
