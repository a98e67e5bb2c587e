"""SERAC: requests in scope are answered by the counterfactual model (Mitchell et al. 2022)."""

import json
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import aclosing
from typing import Any

import httpx
from starlette.types import Receive, Send

from retriever import Fact
from vllm_edit.domain.errors import EditError
from vllm_edit.serac.cancel_on_disconnect import cancel_on_disconnect
from vllm_edit.serac.errors import error_for_status, translated_errors, unreadable_answer
from vllm_edit.serac.model_server import Connection, ModelServer
from vllm_edit.serac.prompt import with_edits
from vllm_edit.serac.server_sent_events import DONE, encode_event, read_events, with_model_name

_SETTINGS = (
    "stream", "stream_options", "max_tokens", "max_completion_tokens", "temperature", "top_p",
    "stop", "seed", "n", "presence_penalty", "frequency_penalty",
)  # fmt: skip
"""Settings of a request that go to the counterfactual model: every OpenAI server knows them."""

_UNSUPPORTED = (
    "tools", "functions", "logprobs", "prompt_logprobs", "echo", "suffix", "prompt_embeds",
    "logit_bias", "allowed_token_ids", "bad_words", "return_token_ids", "continue_final_message",
    "use_beam_search",
)  # fmt: skip
"""Settings of a request that only the served model can follow."""

_CLIENT_ERRORS = frozenset({400, 413, 422})
"""Statuses that say that the client's request is wrong. They are passed on to it."""


def can_answer(request: Mapping[str, Any]) -> bool:
    """Whether the counterfactual model can give what a request asks for.

    It cannot give tokens, tools, log probabilities or a required output format.
    """
    prompt = request.get("prompt", "")
    texts = prompt if isinstance(prompt, list) else [prompt]
    output = request.get("response_format") or {"type": "text"}
    plain = isinstance(output, dict) and output.get("type") == "text"
    unsupported = any(request.get(name) for name in _UNSUPPORTED)
    structured = any(name.startswith(("structured_", "guided_")) for name in request)
    return plain and not unsupported and not structured and all(isinstance(t, str) for t in texts)


class Serac:
    """Answers from (edit, question) with the model of `server`.

    `served` is the model name in the answer to a request that names no model.
    """

    def __init__(self, server: ModelServer, served: str = "") -> None:
        self.server = server
        self._served = served

    async def start(self) -> None:
        """Connect to the model, so that the first request need not wait; raises as `answer`."""
        await self.server.connect()

    async def answer(
        self,
        path: str,
        request: Mapping[str, Any],
        facts: Sequence[Fact],
        send: Send,
        receive: Receive | None = None,
    ) -> None:
        """Answer a request to `path` (/v1/completions or /v1/chat/completions) from its facts.

        The surest fact comes first. If `receive` is given, its body has been read, and the model
        stops when the client disconnects; cancelling the call stops it too. A stream that fails
        after its first event ends with an event that holds the error.

        Raises:
            CounterfactualUnavailable, CounterfactualFailed: there is no answer; nothing was sent.
        """
        work = self._answer(path, request, facts, send)
        await (work if receive is None else cancel_on_disconnect(work, receive))

    async def close(self) -> None:
        """Disconnect from the model for good."""
        await self.server.close()

    async def _answer(
        self, path: str, request: Mapping[str, Any], facts: Sequence[Fact], send: Send
    ) -> None:
        connection = await self.server.connect()
        name = str(request.get("model") or self._served or connection.model)
        with translated_errors():
            async with _post(connection, path, request, facts) as response:
                if response.status_code in _CLIENT_ERRORS and _is(response, "application/json"):
                    await _send_json(send, response.status_code, await response.aread())
                elif response.status_code != httpx.codes.OK:
                    raise error_for_status(response.status_code)
                elif _is(response, "text/event-stream"):
                    await _stream(response, name, send)
                else:
                    await _send_json(send, 200, _with_model_name(await response.aread(), name))


def _post(
    connection: Connection, path: str, request: Mapping[str, Any], facts: Sequence[Fact]
) -> Any:
    body = {key: request[key] for key in _SETTINGS if request.get(key) is not None}
    body |= {"model": connection.model, **with_edits(request, facts)}
    return connection.client.stream("POST", path.removeprefix("/v1/"), json=body)


async def _stream(response: httpx.Response, name: str, send: Send) -> None:
    async with aclosing(read_events(response)) as events:
        # Until the first event is sent, a failure can still set the status.
        first = await anext(events, None)
        if first is None:
            raise unreadable_answer()
        await _send_start(send, 200, "text/event-stream; charset=utf-8")
        await _send_body(send, encode_event(with_model_name(first, name)))
        try:
            await _send_events(events, name, send)
        except EditError as error:
            body = {"message": error.message, "type": type(error).__name__, "code": error.code}
            await _send_body(send, encode_event({"error": body}))
    await _send_body(send, DONE, more=False)


async def _send_events(events: AsyncIterator[dict[str, Any]], name: str, send: Send) -> None:
    with translated_errors():
        async for event in events:
            await _send_body(send, encode_event(with_model_name(event, name)))


def _with_model_name(body: bytes, name: str) -> bytes:
    try:
        answer = json.loads(body)
    except ValueError as error:
        raise unreadable_answer() from error
    if not isinstance(answer, dict) or "choices" not in answer:
        raise unreadable_answer()
    return json.dumps(with_model_name(answer, name), ensure_ascii=False).encode()


def _is(response: httpx.Response, media_type: str) -> bool:
    content_type: str = response.headers.get("content-type", "")
    return content_type.partition(";")[0].strip() == media_type


async def _send_json(send: Send, status: int, body: bytes) -> None:
    await _send_start(send, status, "application/json", len(body))
    await _send_body(send, body, more=False)


async def _send_start(send: Send, status: int, media_type: str, length: int | None = None) -> None:
    headers = [(b"content-type", media_type.encode())]
    if length is not None:
        headers.append((b"content-length", str(length).encode()))
    await send({"type": "http.response.start", "status": status, "headers": headers})


async def _send_body(send: Send, body: bytes, *, more: bool = True) -> None:
    await send({"type": "http.response.body", "body": body, "more_body": more})
