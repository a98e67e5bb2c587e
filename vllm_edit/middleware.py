"""ASGI middleware: asks the retriever about each request and names the edits an answer used."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from starlette.datastructures import MutableHeaders, State
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from retriever import Rewrite
from vllm_edit.memory import MemoryMethod
from vllm_edit.service import EditService

GENERATION_PATHS = frozenset({"/v1/completions", "/v1/chat/completions"})


class EditMiddleware:
    """Puts the facts that concern a request in front of it and labels the answer.

    Pure ASGI: vLLM's own handlers do the rest, streaming included. Without memory edits the
    body is not even read here. A body that is not understood is passed on as it came, so that
    vLLM answers it in its own words.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if not _is_generation(scope):
            await self._app(scope, receive, send)
            return
        state: State = scope["app"].state
        service: EditService | None = getattr(state, "edit_service", None)
        if service is None:
            await self._app(scope, receive, send)
            return
        memory: MemoryMethod = state.edit_memory
        labels = _Labels(service.served_revision, service.labels)
        if not memory.empty:
            body = await _read_body(receive)
            rewritten, used = await _rewrite(body, memory)
            labels.use(used)
            scope = _with_length(scope, len(rewritten))
            receive = _replay(rewritten, receive)
        await self._app(scope, receive, labels.wrap(send))


class _Labels:
    """The response headers that say what knowledge an answer was made with."""

    def __init__(self, revision: int, methods: Sequence[str]) -> None:
        self._revision = revision
        self._methods = list(methods)
        self._ids: list[str] = []

    def use(self, rewrites: Sequence[Rewrite]) -> None:
        for rewrite in rewrites:
            self._ids += [i for i in rewrite.edit_ids if i not in self._ids]
            if rewrite.method not in self._methods:
                self._methods.append(rewrite.method)

    def wrap(self, send: Send) -> Send:
        async def labelled(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers["x-edit-revision"] = str(self._revision)
                headers["x-edit-ids"] = ",".join(self._ids)
                headers["x-edit-method"] = ",".join(self._methods)
            await send(message)

        return labelled


def _is_generation(scope: Scope) -> bool:
    if scope["type"] != "http" or scope["method"] != "POST":
        return False
    path: str = scope["path"]
    return path.removeprefix(scope.get("root_path", "")) in GENERATION_PATHS


async def _read_body(receive: Receive) -> bytes:
    chunks: list[bytes] = []
    while True:
        message = await receive()
        if message["type"] != "http.request":
            return b"".join(chunks)
        chunks.append(message.get("body", b""))
        if not message.get("more_body", False):
            return b"".join(chunks)


def _replay(body: bytes, receive: Receive) -> Receive:
    """A receive that yields ``body`` once and then what the client sends (its disconnect)."""
    messages: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def replayed() -> Message:
        return messages.pop() if messages else await receive()

    return replayed


def _with_length(scope: Scope, length: int) -> Scope:
    drop = (b"content-length", b"transfer-encoding")
    headers = [(name, value) for name, value in scope["headers"] if name not in drop]
    return {**scope, "headers": [*headers, (b"content-length", str(length).encode())]}


async def _rewrite(body: bytes, memory: MemoryMethod) -> tuple[bytes, list[Rewrite]]:
    try:
        request = _parse(body)
    except (ValueError, RecursionError):
        return body, []
    if not isinstance(request, dict):
        return body, []
    changed, used = await _route(request, memory)
    return (json.dumps(changed).encode(), used) if used else (body, [])


def _parse(body: bytes) -> Any:
    """Raises ValueError for what is no JSON, or whose texts no tokenizer takes."""
    request = json.loads(body)
    # Half of a surrogate pair can be written in JSON, but is no character.
    json.dumps(request, ensure_ascii=False).encode()
    return request


async def _route(
    request: Mapping[str, Any], memory: MemoryMethod
) -> tuple[dict[str, Any], list[Rewrite]]:
    """The request with its facts in front, and what was put there."""
    used: list[Rewrite] = []

    async def with_facts(content: Any) -> Any:
        decision = await memory.route(content)
        if not isinstance(decision, Rewrite):
            return content
        used.append(decision)
        return decision.text if decision.messages is None else decision.messages

    changed = dict(request)
    prompt = request.get("prompt")
    if _is_chat(request.get("messages")):
        changed["messages"] = await with_facts(request["messages"])
    elif isinstance(prompt, str):
        changed["prompt"] = await with_facts(prompt)
    elif isinstance(prompt, list) and all(isinstance(item, str) for item in prompt):
        changed["prompt"] = [await with_facts(item) for item in prompt]
    return changed, used


def _is_chat(messages: object) -> bool:
    return isinstance(messages, list) and all(isinstance(turn, dict) for turn in messages)
