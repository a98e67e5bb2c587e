"""A request's body, read before vLLM reads it."""

import json
from typing import Any

from starlette.types import Message, Receive, Scope


async def read(receive: Receive) -> bytes:
    """The whole body, or what came of it before the client left."""
    chunks: list[bytes] = []
    while True:
        message = await receive()
        if message["type"] != "http.request":
            return b"".join(chunks)
        chunks.append(message.get("body", b""))
        if not message.get("more_body", False):
            return b"".join(chunks)


def replay(body: bytes, receive: Receive) -> Receive:
    """A receive that returns ``body`` once, and then what the client sends (its disconnect)."""
    messages: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive_again() -> Message:
        return messages.pop() if messages else await receive()

    return receive_again


def with_body(scope: Scope, receive: Receive, body: bytes) -> tuple[Scope, Receive]:
    """The scope and the receive of the same request with another body."""
    drop = (b"content-length", b"transfer-encoding")
    headers = [(name, value) for name, value in scope["headers"] if name not in drop]
    headers.append((b"content-length", str(len(body)).encode()))
    return {**scope, "headers": headers}, replay(body, receive)


def parse(body: bytes) -> dict[str, Any] | None:
    """The JSON object in the body; None for anything else, which vLLM refuses itself."""
    try:
        request = json.loads(body)
        # JSON can hold half of a surrogate pair, but no tokenizer accepts it.
        json.dumps(request, ensure_ascii=False).encode()
    except (ValueError, RecursionError):
        return None
    return request if isinstance(request, dict) else None
