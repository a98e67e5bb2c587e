"""Asks the variants of the served model as their clients do."""

import asyncio
import json
import secrets
from collections.abc import Mapping, Sequence
from typing import Any

from starlette.types import Message

from retriever import Delegate
from vllm_edit.domain.errors import EditError, Unavailable
from vllm_edit.engine.model_names import ModelNames
from vllm_edit.memory.counterfactual_model import CounterfactualModel
from vllm_edit.memory.router import Router
from vllm_edit.memory.routing_options import RoutingOptions
from vllm_edit.probes.gate import Answers
from vllm_edit.request.variant_selection import request_for_variant
from vllm_edit.security.visibility import ADMINISTRATOR, viewing
from vllm_edit.vllm_interface.completions import ChatHandler, CompletionHandler, chat, complete

MAX_TOKENS = 24
"""As `vllm-edit evaluate` has it."""

_COMPLETIONS = "/v1/completions"
_CHAT = "/v1/chat/completions"


class VariantAsker:
    """Short greedy answers by vLLM's own handlers, in this process.

    A prompt goes the same way as a client's: memory routes it, and SERAC's model answers what is
    in scope. The next one is asked when it is answered, and none gets what the cache of prefixes
    holds: in half precision, answers computed in one batch or from a cache can differ from those
    of a prompt alone. Each must be answered within ``timeout`` seconds. ``chats`` answers chats,
    if the model has a chat template.
    """

    def __init__(
        self,
        completions: CompletionHandler,
        router: Router,
        names: ModelNames,
        counterfactual: CounterfactualModel | None,
        timeout: float,
        chats: ChatHandler | None = None,
    ) -> None:
        self._completions = completions
        self._router = router
        self._names = names
        self._counterfactual = counterfactual
        self._timeout = timeout
        self._chats = chats

    async def ask(self, variant: str, prompts: Sequence[str]) -> Answers:
        """See `Asker.ask`."""
        answers: dict[str, str] = {}
        refused: dict[str, str] = {}
        for prompt in prompts:
            try:
                answers[prompt] = await self._answer(variant, {"prompt": prompt}, MAX_TOKENS)
            except EditError as error:
                refused[prompt] = error.message
            except TimeoutError as error:
                raise self._too_late() from error
        return Answers(answers, refused)

    @property
    def chats(self) -> bool:
        """See `Speaker.chats`."""
        return self._chats is not None

    async def complete(self, variant: str, prompt: str, max_tokens: int) -> str:
        """See `Speaker.complete`."""
        return await self._in_time(variant, {"prompt": prompt}, max_tokens)

    async def chat(self, variant: str, prompt: str, max_tokens: int) -> str:
        """See `Speaker.chat`."""
        messages = [{"role": "user", "content": prompt}]
        return await self._in_time(variant, {"messages": messages}, max_tokens)

    async def _in_time(self, variant: str, content: Mapping[str, Any], max_tokens: int) -> str:
        try:
            return await self._answer(variant, content, max_tokens)
        except TimeoutError as error:
            raise self._too_late() from error

    async def _answer(self, variant: str, content: Mapping[str, Any], max_tokens: int) -> str:
        """Raises EditError where a client would get no answer, and TimeoutError."""
        limit = "max_completion_tokens" if "messages" in content else "max_tokens"
        request = {
            "model": self._names.served[0],
            "temperature": 0.0,
            "cache_salt": secrets.token_hex(8),
            limit: max_tokens,
            **content,
        }
        # It asks for the server itself, whoever's variant it is.
        with viewing(ADMINISTRATOR):
            async with asyncio.timeout(self._timeout):
                routed = await self._router.route(
                    request_for_variant(self._names, request, variant), RoutingOptions(variant)
                )
            if routed.delegate is not None and self._counterfactual is not None:
                await self._counterfactual.start()  # that has a time limit of its own
            async with asyncio.timeout(self._timeout):
                return await self._generate(routed.request, routed.delegate)

    async def _generate(self, request: Mapping[str, Any], delegate: Delegate | None) -> str:
        if delegate is not None and self._counterfactual is not None:
            return await _delegate(self._counterfactual, request, delegate)
        if "messages" not in request:
            return await complete(self._completions, request)
        if self._chats is None:
            raise Unavailable("The model has no chat template.")
        return await chat(self._chats, request)

    def _too_late(self) -> Unavailable:
        return Unavailable(
            f"the model gave no answer within {self._timeout:g} s (--edit-probe-timeout)."
        )


async def _delegate(
    model: CounterfactualModel, request: Mapping[str, Any], delegate: Delegate
) -> str:
    parts: list[bytes] = []

    async def send(message: Message) -> None:
        parts.append(message.get("body", b""))

    await model.answer(
        _CHAT if "messages" in request else _COMPLETIONS, request, delegate.facts, send
    )
    body = json.loads(b"".join(parts))
    if "choices" not in body:
        raise Unavailable(str(body))
    choice = body["choices"][0]
    text: str = choice["text"] if "text" in choice else choice["message"]["content"] or ""
    return text
