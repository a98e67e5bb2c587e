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

from vllm_edit.serac.cancel_on_disconnect import cancel_on_disconnect
from vllm_edit.serac.generation import Ending, Generator, Sampling, TooLongError
from vllm_edit.serac.request_body import ChatBody, CompletionBody
from vllm_edit.serac.response_format import CHAT, COMPLETION, ResponseFormat, usage
from vllm_edit.serac.server_sent_events import DONE, encode_event

_LONGEST_BODY = 1 << 22


class App:
    """Answers requests with one generator, which makes one text at a time on one thread."""

    def __init__(self, generator: Generator, model: str, threads: int) -> None:
        self._generator = generator
        self._model = model
        # PyTorch keeps the number of threads per calling thread.
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
            prompts = [self._generator.encode(prompt) for prompt in body.prompts]
        except (msgspec.MsgspecError, ValueError) as error:
            return _refused(str(error))
        return await self._answer(request, COMPLETION, prompts, body)

    async def _chat(self, request: Request) -> Response:
        if not self._generator.chats:
            return _refused("The counterfactual model has no chat template.")
        try:
            body = msgspec.json.decode(await _read(request), type=ChatBody)
            prompts = [self._generator.encode_chat(body.messages)]
        except (msgspec.MsgspecError, ValueError, TypeError, TemplateError) as error:
            return _refused(str(error))
        return await self._answer(request, CHAT, prompts, body)

    async def _answer(
        self,
        request: Request,
        response_format: ResponseFormat,
        prompts: Sequence[list[int]],
        body: CompletionBody | ChatBody,
    ) -> Response:
        prompts = [ids for ids in prompts for _ in range(body.n or 1)]
        frame = {
            "id": f"{response_format.prefix}-{uuid.uuid4().hex}",
            "created": int(time.time()),
            "model": self._model,
        }
        if body.stream:
            stream = self._stream(response_format, frame, prompts, body)
            return StreamingResponse(stream, media_type="text/event-stream")
        whole = self._whole(response_format, frame, prompts, body.sampling)
        answer = await cancel_on_disconnect(whole, request.receive)
        return JSONResponse(answer)

    async def _whole(
        self,
        response_format: ResponseFormat,
        frame: dict[str, Any],
        prompts: Sequence[list[int]],
        sampling: Sampling,
    ) -> dict[str, Any]:
        choices, endings = [], []
        for index, ids in enumerate(prompts):
            text: list[str] = []
            async with aclosing(self._generate(ids, sampling)) as pieces:
                async for piece in pieces:
                    if isinstance(piece, Ending):
                        endings.append(piece)
                        choices.append(response_format.choice(index, "".join(text), piece.reason))
                    else:
                        text.append(piece)
        frame = {**frame, "object": response_format.whole}
        return {**frame, "choices": choices, "usage": usage(endings)}

    async def _stream(
        self,
        response_format: ResponseFormat,
        frame: dict[str, Any],
        prompts: Sequence[list[int]],
        body: CompletionBody | ChatBody,
    ) -> AsyncIterator[bytes]:
        frame = {**frame, "object": response_format.chunk}
        endings: list[Ending] = []
        for index, ids in enumerate(prompts):
            for delta in response_format.opening(index):
                yield encode_event({**frame, "choices": [delta]})
            async with aclosing(self._generate(ids, body.sampling)) as pieces:
                async for piece in pieces:
                    if isinstance(piece, Ending):
                        endings.append(piece)
                        delta = response_format.delta(index, "", piece.reason)
                    else:
                        delta = response_format.delta(index, piece, None)
                    yield encode_event({**frame, "choices": [delta]})
        if body.include_usage:
            yield encode_event({**frame, "choices": [], "usage": usage(endings)})
        yield DONE

    async def _generate(
        self, ids: Sequence[int], sampling: Sampling
    ) -> AsyncGenerator[str | Ending]:
        """The pieces of one text, then how it ended. Closing this early stops the generation."""
        loop = asyncio.get_running_loop()
        queue: asyncio.Queue[str | None] = asyncio.Queue()
        cancelled = threading.Event()

        def emit(piece: str | None) -> None:
            loop.call_soon_threadsafe(queue.put_nowait, piece)

        def generate() -> Ending:
            try:
                return self._generator.generate(ids, sampling, emit, cancelled.is_set)
            finally:
                emit(None)

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


def _refused(message: str) -> Response:
    error = {"message": message, "type": "invalid_request_error", "param": None, "code": None}
    return JSONResponse({"error": error}, 400)
