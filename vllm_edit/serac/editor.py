"""SERAC: requests in scope are answered by the counterfactual model (Mitchell et al. 2022)."""

import json
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import aclosing
from typing import Any

import httpx
from starlette.types import Receive, Send

from retriever import Fact
from vllm_edit.domain.errors import EditError
from vllm_edit.serac.disconnect import until_disconnect
from vllm_edit.serac.events import DONE, event, events, named
from vllm_edit.serac.failures import failed, reported, unreadable
from vllm_edit.serac.prompt import with_edits
from vllm_edit.serac.upstream import Connection, Upstream

_SETTINGS = (
    "stream", "stream_options", "max_tokens", "max_completion_tokens", "temperature", "top_p",
    "stop", "seed", "n", "presence_penalty", "frequency_penalty",
)  # fmt: skip
"""What of a request's settings goes to the counterfactual model: every such server knows them."""

_NEEDED = (
    "tools", "functions", "logprobs", "prompt_logprobs", "echo", "suffix", "prompt_embeds",
    "logit_bias", "allowed_token_ids", "bad_words", "return_token_ids", "continue_final_message",
    "use_beam_search",
)  # fmt: skip
"""What makes a request one that another model cannot answer in the served one's place."""

_REFUSED = frozenset({400, 413, 422})
"""Statuses with which a server refuses what the client asked for: they are the client's."""


def suits(request: Mapping[str, Any]) -> bool:
    """Whether the counterfactual model can give what a request asks for.

    It cannot where tokens, tools, log probabilities or a given format are wanted.
    """
    prompt = request.get("prompt", "")
    texts = prompt if isinstance(prompt, list) else [prompt]
    form = request.get("response_format") or {"type": "text"}
    plain = isinstance(form, dict) and form.get("type") == "text"
    wanted = any(request.get(name) for name in _NEEDED)
    structured = any(name.startswith(("structured_", "guided_")) for name in request)
    return plain and not wanted and not structured and all(isinstance(t, str) for t in texts)


class Serac:
    """Answers from (edit, question) with the model of `upstream`.

    `served` is the name that answers give the model where a request names none.
    """

    def __init__(self, upstream: Upstream, served: str = "") -> None:
        self.upstream = upstream
        self._served = served

    async def start(self) -> None:
        """See that the model can be asked, so that the first request does not wait for it.

        Raises as `answer` does.
        """
        await self.upstream.connect()

    async def answer(
        self,
        path: str,
        request: Mapping[str, Any],
        facts: Sequence[Fact],
        send: Send,
        receive: Receive | None = None,
    ) -> None:
        """Answer a request to `path` (/v1/completions or /v1/chat/completions) from its facts.

        The facts come the surest first. With `receive`, whose body has been read, the model is
        stopped when the client leaves; cancelling this does the same. An answer that breaks off
        in the middle of a stream ends with an event that holds the error.

        Raises:
            CounterfactualUnavailable, CounterfactualFailed: there is no answer; nothing was sent.
        """
        work = self._answer(path, request, facts, send)
        await (work if receive is None else until_disconnect(work, receive))

    async def close(self) -> None:
        """Let go of the model for good."""
        await self.upstream.close()

    async def _answer(
        self, path: str, request: Mapping[str, Any], facts: Sequence[Fact], send: Send
    ) -> None:
        connection = await self.upstream.connect()
        name = str(request.get("model") or self._served or connection.model)
        with reported():
            async with _asked(connection, path, request, facts) as response:
                if response.status_code in _REFUSED and _is(response, "application/json"):
                    await _send_json(send, response.status_code, await response.aread())
                elif response.status_code != httpx.codes.OK:
                    raise failed(response.status_code)
                elif _is(response, "text/event-stream"):
                    await _stream(response, name, send)
                else:
                    await _send_json(send, 200, _renamed(await response.aread(), name))


def _asked(
    connection: Connection, path: str, request: Mapping[str, Any], facts: Sequence[Fact]
) -> Any:
    body = {key: request[key] for key in _SETTINGS if request.get(key) is not None}
    body |= {"model": connection.model, **with_edits(request, facts)}
    return connection.client.stream("POST", path.removeprefix("/v1/"), json=body)


async def _stream(response: httpx.Response, name: str, send: Send) -> None:
    async with aclosing(events(response.aiter_bytes())) as incoming:
        # Until the first event has come, a failure can still have a status of its own.
        first = await anext(incoming, None)
        if first is None:
            raise unreadable()
        await _send_start(send, 200, "text/event-stream; charset=utf-8")
        await _send_body(send, event(named(first, name)))
        try:
            await _rest(incoming, name, send)
        except EditError as error:
            told = {"message": error.message, "type": type(error).__name__, "code": error.code}
            await _send_body(send, event({"error": told}))
    await _send_body(send, DONE, more=False)


async def _rest(incoming: AsyncIterator[dict[str, Any]], name: str, send: Send) -> None:
    with reported():
        async for item in incoming:
            await _send_body(send, event(named(item, name)))


def _renamed(body: bytes, name: str) -> bytes:
    try:
        answer = json.loads(body)
    except ValueError as error:
        raise unreadable() from error
    if not isinstance(answer, dict) or "choices" not in answer:
        raise unreadable()
    return json.dumps(named(answer, name), ensure_ascii=False).encode()


def _is(response: httpx.Response, kind: str) -> bool:
    given: str = response.headers.get("content-type", "")
    return given.partition(";")[0].strip() == kind


async def _send_json(send: Send, status: int, body: bytes) -> None:
    await _send_start(send, status, "application/json", len(body))
    await _send_body(send, body, more=False)


async def _send_start(send: Send, status: int, kind: str, length: int | None = None) -> None:
    headers = [(b"content-type", kind.encode())]
    if length is not None:
        headers.append((b"content-length", str(length).encode()))
    await send({"type": "http.response.start", "status": status, "headers": headers})


async def _send_body(send: Send, body: bytes, *, more: bool = True) -> None:
    await send({"type": "http.response.body", "body": body, "more_body": more})
