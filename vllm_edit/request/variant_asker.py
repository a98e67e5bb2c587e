"""Asks the variants of the served model as their clients do."""

import asyncio
import json
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
from vllm_edit.vllm_interface.completions import CompletionHandler, complete

MAX_TOKENS = 24
"""As `vllm-edit evaluate` has it."""

_MAX_RUNNING = 32
_PATH = "/v1/completions"


class VariantAsker:
    """Short greedy completions by vLLM's own handler, in this process.

    A prompt goes the same way as a client's: memory routes it, and SERAC's model answers what is
    in scope. Each must be answered within ``timeout`` seconds.
    """

    def __init__(
        self,
        completions: CompletionHandler,
        router: Router,
        names: ModelNames,
        counterfactual: CounterfactualModel | None,
        timeout: float,
    ) -> None:
        self._completions = completions
        self._router = router
        self._names = names
        self._counterfactual = counterfactual
        self._timeout = timeout

    async def ask(self, variant: str, prompts: Sequence[str]) -> Answers:
        """See `Asker.ask`."""
        running = asyncio.Semaphore(_MAX_RUNNING)
        answers: dict[str, str] = {}
        refused: dict[str, str] = {}

        async def ask_one(prompt: str) -> None:
            async with running, asyncio.timeout(self._timeout):
                try:
                    answers[prompt] = await self._answer(variant, prompt)
                except EditError as error:
                    refused[prompt] = error.message

        tasks = [asyncio.create_task(ask_one(prompt)) for prompt in prompts]
        try:
            await asyncio.gather(*tasks)
        except TimeoutError as error:
            raise Unavailable(
                f"the model gave no answer within {self._timeout:g} s (--edit-probe-timeout)."
            ) from error
        finally:
            for task in tasks:
                task.cancel()
        return Answers(answers, refused)

    async def _answer(self, variant: str, prompt: str) -> str:
        """Raises EditError where a client would get no answer."""
        greedy = {"prompt": prompt, "max_tokens": MAX_TOKENS, "temperature": 0.0}
        request = {"model": self._names.served[0], **greedy}
        routed = await self._router.route(
            request_for_variant(self._names, request, variant), RoutingOptions(variant)
        )
        if routed.delegate is not None and self._counterfactual is not None:
            return await _delegate(self._counterfactual, routed.request, routed.delegate)
        return await complete(self._completions, routed.request)


async def _delegate(
    model: CounterfactualModel, request: Mapping[str, Any], delegate: Delegate
) -> str:
    parts: list[bytes] = []

    async def send(message: Message) -> None:
        parts.append(message.get("body", b""))

    await model.answer(_PATH, request, delegate.facts, send)
    body = json.loads(b"".join(parts))
    if "choices" not in body:
        raise Unavailable(str(body))
    text: str = body["choices"][0]["text"]
    return text
