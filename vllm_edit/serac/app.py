"""The HTTP side of the counterfactual model's process: a part of OpenAI's API."""

import asyncio
import threading
import time
import uuid
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import aclosing
from typing import Any

import msgspec
import torch
from jinja2 import TemplateError
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from vllm_edit.serac.disconnect import until_disconnect
from vllm_edit.serac.events import DONE, event
from vllm_edit.serac.generation import Ending, Generator, Sampling, TooLongError
from vllm_edit.serac.requests import ChatBody, CompletionBody
from vllm_edit.serac.shapes import CHAT, COMPLETION, Shape, usage

_LONGEST_BODY = 1 << 22


class App:
    """Answers with one generator, one text after the other, on one thread."""

    def __init__(self, generator: Generator, model: str, threads: int) -> None:
        self._generator = generator
        self._model = model
        # The setting belongs to the thread that makes it.
        self._pool = ThreadPoolExecutor(1, "generation", torch.set_num_threads, (threads,))
        self.asgi = Starlette(
            routes=[
                Route("/v1/models", self._models),
                Route("/v1/completions", self._completions, methods=["POST"]),
                Route("/v1/chat/completions", self._chat, methods=["POST"]),
            ]
        )

    async def _models(self, _: Request) -> Response:
        return JSONResponse({"object": "list", "data": [{"id": self._model, "object": "model"}]})

    async def _completions(self, request: Request) -> Response:
        try:
            body = msgspec.json.decode(await _read(request), type=CompletionBody)
            given = [self._generator.encode(prompt) for prompt in body.prompts]
        except (msgspec.MsgspecError, ValueError) as error:
            return _refused(str(error))
        return await self._answer(request, COMPLETION, given, body)

    async def _chat(self, request: Request) -> Response:
        if not self._generator.chats:
            return _refused("The counterfactual model has no chat template.")
        try:
            body = msgspec.json.decode(await _read(request), type=ChatBody)
            given = [self._generator.encode_chat(body.messages)]
        except (msgspec.MsgspecError, ValueError, TypeError, TemplateError) as error:
            return _refused(str(error))
        return await self._answer(request, CHAT, given, body)

    async def _answer(
        self,
        request: Request,
        shape: Shape,
        given: Sequence[list[int]],
        body: CompletionBody | ChatBody,
    ) -> Response:
        asked = [ids for ids in given for _ in range(body.n or 1)]
        frame = {
            "id": f"{shape.prefix}-{uuid.uuid4().hex}",
            "created": int(time.time()),
            "model": self._model,
        }
        if body.stream:
            stream = self._events(shape, frame, asked, body)
            return StreamingResponse(stream, media_type="text/event-stream")
        whole = self._whole(shape, frame, asked, body.sampling)
        answer = await until_disconnect(whole, request.receive)
        return JSONResponse(answer)

    async def _whole(
        self, shape: Shape, frame: dict[str, Any], asked: Sequence[list[int]], sampling: Sampling
    ) -> dict[str, Any]:
        choices, endings = [], []
        for index, ids in enumerate(asked):
            pieces: list[str] = []
            async with aclosing(self._generate(ids, sampling)) as incoming:
                async for piece in incoming:
                    if isinstance(piece, Ending):
                        endings.append(piece)
                        choices.append(shape.choice(index, "".join(pieces), piece.reason))
                    else:
                        pieces.append(piece)
        return {**frame, "object": shape.whole, "choices": choices, "usage": usage(endings)}

    async def _events(
        self,
        shape: Shape,
        frame: dict[str, Any],
        asked: Sequence[list[int]],
        body: CompletionBody | ChatBody,
    ) -> AsyncIterator[bytes]:
        frame = {**frame, "object": shape.piece}
        endings: list[Ending] = []
        for index, ids in enumerate(asked):
            for delta in shape.opening(index):
                yield event({**frame, "choices": [delta]})
            async with aclosing(self._generate(ids, body.sampling)) as incoming:
                async for piece in incoming:
                    if isinstance(piece, Ending):
                        endings.append(piece)
                        delta = shape.delta(index, "", piece.reason)
                    else:
                        delta = shape.delta(index, piece, None)
                    yield event({**frame, "choices": [delta]})
        if body.usage_wanted:
            yield event({**frame, "choices": [], "usage": usage(endings)})
        yield DONE

    async def _generate(
        self, ids: Sequence[int], sampling: Sampling
    ) -> AsyncGenerator[str | Ending]:
        """The pieces of one text and how it ended. Closed early, the generation stops."""
        loop = asyncio.get_running_loop()
        queue: asyncio.Queue[str | None] = asyncio.Queue()
        cancelled = threading.Event()

        def hand_on(piece: str | None) -> None:
            loop.call_soon_threadsafe(queue.put_nowait, piece)

        def generate() -> Ending:
            try:
                return self._generator.generate(ids, sampling, hand_on, cancelled.is_set)
            finally:
                hand_on(None)

        running: Future[Ending] = self._pool.submit(generate)
        try:
            while (piece := await queue.get()) is not None:
                yield piece
            ending: Ending = await asyncio.wrap_future(running)
            yield ending
        finally:
            cancelled.set()
            running.cancel()


async def _read(request: Request) -> bytes:
    body = await request.body()
    if len(body) > _LONGEST_BODY:
        raise TooLongError(f"The body has more than {_LONGEST_BODY} bytes.")
    return body


def _refused(why: str) -> Response:
    told = {"message": why, "type": "invalid_request_error", "param": None, "code": None}
    return JSONResponse({"error": told}, 400)
