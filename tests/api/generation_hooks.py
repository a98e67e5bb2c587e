"""What schemathesis loads to try the routes that generate: its texts in requests that vLLM takes.

The schema of vLLM's own bodies allows much that vLLM does not. What matters here is which texts
come in, and where: so each body becomes a small one with the same texts, half of them beside the
name of a subject that edits are about.
"""

import zlib
from collections.abc import Iterator
from typing import Any

import schemathesis

from tests.cases import DUBAI


@schemathesis.hook
def map_body(context: schemathesis.HookContext, body: Any) -> Any:
    """A body of the same route with the same texts."""
    text = " ".join(_texts(body))[:400]
    number = zlib.crc32(text.encode("utf-8", "surrogatepass"))
    if number % 2:
        text = f"{text} {DUBAI['subject']} {text[:40]}"
    small = {"model": "factworld", "stream": bool(number & 2), "user": text[:20]}
    path = context.operation.path
    if path.endswith("/route"):
        return {"messages": _chat(text)} if number & 4 else {"text": text}
    if path.endswith("/responses"):
        return small | {"input": text, "max_output_tokens": 1}
    small |= {"max_tokens": 1, "edit_hops": bool(number & 8)}
    if path.endswith("/chat/completions"):
        return small | {"messages": _chat(text)}
    return small | {"prompt": [text, DUBAI["subject"]] if number & 4 else text}


def _chat(text: str) -> list[dict[str, Any]]:
    return [{"role": "user", "content": part} for part in (text[:80], text)]


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for key, item in value.items():
            yield str(key)
            yield from _texts(item)
    elif isinstance(value, list):
        for item in value:
            yield from _texts(item)
