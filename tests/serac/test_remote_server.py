"""SERAC with a model at a URL: a real HTTP server that the tests control."""

import asyncio
import json
import logging
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from retriever import Fact
from tests.serac.conftest import Sent, client_of, serving, serving_url, wait_until
from vllm_edit.domain.errors import (
    CounterfactualFailed,
    CounterfactualUnavailable,
    EditError,
    Unavailable,
)
from vllm_edit.http_errors import status_of
from vllm_edit.serac.model_server import RemoteServer
from vllm_edit.serac.serac import Serac
from vllm_edit.serac.server_sent_events import DONE, encode_event

FACT = Fact("e1", "Anna", "Anna was born in", "Oslo")
ASKED = {"model": "served@set", "prompt": "Where was Anna born?", "max_tokens": 5}
CHOICE = {"index": 0, "text": " Oslo.", "finish_reason": "stop"}
ANSWER = {"id": "1", "object": "text_completion", "model": "small", "choices": [CHOICE]}

Behaviour = Callable[[], Awaitable[Response]]


class FakeServer:
    """The requests that the server got, and its reply."""

    def __init__(self) -> None:
        self.bodies: list[dict[str, Any]] = []
        self.keys: list[str | None] = []
        self.models: Response = JSONResponse({"data": [{"id": "small"}]})
        self.behaviour: Behaviour | None = None
        self.streaming = False
        self.left = False
        self.asgi = Starlette(
            routes=[
                Route("/v1/models", self._list),
                Route("/v1/completions", self._answer, methods=["POST"]),
                Route("/v1/chat/completions", self._answer, methods=["POST"]),
            ]
        )

    def answer(self, response: Callable[[], Response]) -> None:
        async def behaviour() -> Response:
            return response()

        self.behaviour = behaviour

    def stream(self, *parts: bytes, breaks: bool = False, endless: bool = False) -> None:
        self.answer(
            lambda: StreamingResponse(
                self._parts(parts, breaks, endless), media_type="text/event-stream"
            )
        )

    async def _parts(
        self, parts: tuple[bytes, ...], breaks: bool, endless: bool
    ) -> AsyncIterator[bytes]:
        self.streaming = True
        try:
            for part in parts:
                yield part
            while endless:
                await asyncio.sleep(0.01)
                yield parts[-1]
            if breaks:
                raise ConnectionAbortedError
        finally:
            self.left = True

    async def _list(self, request: Request) -> Response:
        self.keys.append(request.headers.get("authorization"))
        return self.models

    async def _answer(self, request: Request) -> Response:
        self.keys.append(request.headers.get("authorization"))
        self.bodies.append(await request.json())
        if self.behaviour is None:
            return JSONResponse(ANSWER)
        return await self.behaviour()


@pytest.fixture
def fake() -> FakeServer:
    return FakeServer()


@pytest.fixture
def url(fake: FakeServer) -> Iterator[str]:
    with serving_url(fake.asgi) as url:
        yield url


@pytest.fixture
async def serac(url: str) -> AsyncIterator[Serac]:
    made = Serac(RemoteServer(url, key="secret", timeout=20.0))
    yield made
    await made.close()


async def _ask(serac: Serac, path: str = "/v1/completions", **more: Any) -> Sent:
    sent = Sent()
    await serac.answer(path, {**ASKED, **more}, [FACT], sent)
    return sent


async def test_the_request_has_the_facts_and_the_clients_settings(
    serac: Serac, fake: FakeServer
) -> None:
    more = {"temperature": 0.0, "stop": ["\n"], "seed": 3, "top_k": 4, "user": "u", "n": None}
    sent = await _ask(serac, **more)
    assert sent.status == 200
    assert sent.json == {**ANSWER, "model": "served@set"}
    assert fake.bodies == [
        {
            "model": "small",
            "prompt": "New Fact: Anna was born in Oslo.\nPrompt: Where was Anna born?",
            "max_tokens": 5,
            "temperature": 0.0,
            "stop": ["\n"],
            "seed": 3,
        }
    ]
    await _ask(serac)
    # The served model was requested only once.
    assert fake.keys == ["Bearer secret"] * 3


async def test_a_given_model_name_is_not_requested(url: str, fake: FakeServer) -> None:
    serac = Serac(RemoteServer(url, "chosen"), served="factworld")
    sent = Sent()
    await serac.answer("/v1/chat/completions", {"messages": []}, [FACT], sent)
    await serac.close()
    assert sent.json["model"] == "factworld"
    assert fake.bodies == [{"model": "chosen", "messages": []}]
    assert fake.keys == [None]


async def test_a_stream_is_passed_on_as_it_comes(serac: Serac, fake: FakeServer) -> None:
    whole = encode_event({"model": "small", "choices": [{"index": 0, "text": " Os"}]})
    fake.stream(b": ping\n\n", whole[:7], whole[7:] + encode_event({"choices": []}), DONE)
    sent = await _ask(serac, stream=True)
    assert sent.status == 200
    assert sent.events == [
        {"model": "served@set", "choices": [{"index": 0, "text": " Os"}]},
        {"choices": []},
    ]


async def test_a_broken_stream_ends_with_the_error(serac: Serac, fake: FakeServer) -> None:
    fake.stream(encode_event(ANSWER), breaks=True)
    sent = await _ask(serac, stream=True)
    first, last = sent.events
    assert first["choices"] == [CHOICE]
    assert last["error"]["code"] == "counterfactual_unreachable"


async def test_a_stream_without_events_is_an_error(serac: Serac, fake: FakeServer) -> None:
    fake.stream(b": ping\n\n", DONE)
    await _fails(serac, CounterfactualFailed, "counterfactual_unreadable", 502, stream=True)


async def test_a_refusal_is_passed_to_the_client(serac: Serac, fake: FakeServer) -> None:
    fake.answer(lambda: JSONResponse({"error": {"message": "too long"}}, 400))
    sent = await _ask(serac)
    assert sent.status == 400
    assert sent.json == {"error": {"message": "too long"}}


@pytest.mark.parametrize(
    ("response", "kind", "code", "status"),
    [
        (Response("secret", 401), CounterfactualFailed, "counterfactual_failed", 502),
        (Response("", 404), CounterfactualFailed, "counterfactual_failed", 502),
        (Response("no", 400), CounterfactualFailed, "counterfactual_failed", 502),
        (Response("", 500), CounterfactualFailed, "counterfactual_failed", 502),
        (Response("", 429), CounterfactualUnavailable, "counterfactual_busy", 503),
        (Response("", 503), CounterfactualUnavailable, "counterfactual_busy", 503),
        (Response("x"), CounterfactualFailed, "counterfactual_unreadable", 502),
        (JSONResponse([]), CounterfactualFailed, "counterfactual_unreadable", 502),
        (JSONResponse({}), CounterfactualFailed, "counterfactual_unreadable", 502),
    ],
)
async def test_other_failures_are_errors_with_a_code(
    serac: Serac,
    fake: FakeServer,
    response: Response,
    kind: type[EditError],
    code: str,
    status: int,
) -> None:
    fake.answer(lambda: response)
    await _fails(serac, kind, code, status)


async def _fails(serac: Serac, kind: type[EditError], code: str, status: int, **more: Any) -> None:
    sent = Sent()
    with pytest.raises(kind) as caught:
        await serac.answer("/v1/completions", {**ASKED, **more}, [FACT], sent)
    assert (caught.value.code, status_of(caught.value)) == (code, status)
    assert "secret" not in caught.value.message
    assert sent.messages == []


async def test_a_missing_server_is_unavailable() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        serac = Serac(RemoteServer(f"http://127.0.0.1:{free.getsockname()[1]}/v1"))
        await _fails(serac, CounterfactualUnavailable, "counterfactual_unreachable", 503)
        await serac.close()


async def test_a_slow_server_times_out(url: str, fake: FakeServer) -> None:
    released = asyncio.Event()

    async def never() -> Response:
        await released.wait()
        return Response()

    fake.behaviour = never
    serac = Serac(RemoteServer(url, "small", timeout=0.2))
    await _fails(serac, CounterfactualUnavailable, "counterfactual_timeout", 503)
    await serac.close()


@pytest.mark.parametrize("listed", [JSONResponse({"data": []}), JSONResponse([]), Response("x")])
async def test_a_server_without_models_is_an_error(
    serac: Serac, fake: FakeServer, listed: Response
) -> None:
    fake.models = listed
    with pytest.raises(CounterfactualFailed, match="--edit-serac-name"):
        await serac.start()
    fake.models = JSONResponse({"data": [{"id": "small"}]})
    await serac.start()


async def test_the_model_is_stopped_when_the_client_leaves(url: str, fake: FakeServer) -> None:
    fake.stream(encode_event(ANSWER), endless=True)

    async def front(scope: Scope, receive: Receive, send: Send) -> None:
        request = json.loads((await receive())["body"])
        serac = Serac(RemoteServer(url))
        await serac.answer(scope["path"], request, [FACT], send, receive)
        await serac.close()

    with serving(front) as path:
        async with (
            client_of(path) as client,
            client.stream("POST", "completions", json={**ASKED, "stream": True}) as answer,
        ):
            lines = answer.aiter_lines()
            assert "Oslo" in await anext(lines)
            assert fake.streaming
            assert not fake.left
        wait_until(lambda: fake.left)


async def test_the_key_is_not_logged(serac: Serac, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        await _ask(serac)
    assert caplog.records
    assert "secret" not in caplog.text


@pytest.mark.parametrize(
    "url", ["", "localhost:9000", "ftp://host/v1", "http://", "http://user:secret@host/v1"]
)
def test_an_invalid_url_is_refused(url: str) -> None:
    with pytest.raises(Unavailable, match="--edit-serac-url") as caught:
        RemoteServer(url)
    assert "secret" not in caught.value.message


async def test_a_base_url_may_end_in_a_slash(url: str) -> None:
    serac = Serac(RemoteServer(f"{url}/"))
    assert (await _ask(serac)).status == httpx.codes.OK
    await serac.close()
