"""Server-sent events of OpenAI's API: one JSON object each, and [DONE] at the end."""

import json
from collections.abc import AsyncGenerator, AsyncIterable, Mapping
from typing import Any

from vllm_edit.serac.failures import unreadable

DONE = b"data: [DONE]\n\n"
_LONGEST = 1 << 24


def event(content: Mapping[str, Any]) -> bytes:
    """The bytes of an event."""
    return b"data: " + json.dumps(content, ensure_ascii=False).encode() + b"\n\n"


def named(content: Mapping[str, Any], model: str) -> dict[str, Any]:
    """The same with that name in the place of the model's, if it has one."""
    return {**content, "model": model} if "model" in content else dict(content)


async def events(chunks: AsyncIterable[bytes]) -> AsyncGenerator[dict[str, Any]]:
    """The events of a body up to [DONE] or its end; comments are left out.

    Raises:
        CounterfactualFailed: something is no event of OpenAI's API.
    """
    # Not by str.splitlines, which takes more for the end of a line than the standard does.
    rest = b""
    async for chunk in chunks:
        *lines, rest = (rest + chunk).split(b"\n")
        if len(rest) > _LONGEST:
            raise unreadable()
        for line in lines:
            name, _, value = line.partition(b":")
            data = value.strip()
            if name != b"data" or not data:
                continue
            if data == b"[DONE]":
                return
            yield _parsed(data)


def _parsed(data: bytes) -> dict[str, Any]:
    try:
        content = json.loads(data)
    except ValueError as error:
        raise unreadable() from error
    if not isinstance(content, dict):
        raise unreadable()
    return content
