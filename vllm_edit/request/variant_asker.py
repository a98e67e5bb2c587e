"""Asks the variants of the served model as clients of theirs do."""

import asyncio
import json
from collections.abc import Sequence

from starlette.types import Message

from vllm_edit.domain.errors import EditError, Unavailable
from vllm_edit.engine.model_names import ModelNames
from vllm_edit.memory.method import Counterfactual
from vllm_edit.memory.router import Routed, Router
from vllm_edit.memory.routing_options import RoutingOptions
from vllm_edit.probes.gate import Answers
from vllm_edit.request.variant_selection import for_variant
from vllm_edit.vllm_interface.completions import CompletionHandler, complete

MAX_TOKENS = 24
"""As `vllm-edit evaluate` has it."""

_AT_ONCE = 32
_PATH = "/v1/completions"


class VariantAsker:
    """Short greedy completions by vLLM's own handler, in this process.

    A prompt goes the way of a client's: memory is asked about it, and SERAC's model answers what
    is in scope. Each must be answered within ``timeout`` seconds.
    """

    def __init__(
        self,
        completions: CompletionHandler,
        router: Router,
        names: ModelNames,
        counterfactual: Counterfactual | None,
        timeout: float,
    ) -> None:
        self._completions = completions
        self._router = router
        self._names = names
        self._counterfactual = counterfactual
        self._timeout = timeout

    async def ask(self, variant: str, prompts: Sequence[str]) -> Answers:
        """See `Asker.ask`."""
        turn = asyncio.Semaphore(_AT_ONCE)
        said: dict[str, str] = {}
        refused: dict[str, str] = {}

        async def one(prompt: str) -> None:
            async with turn, asyncio.timeout(self._timeout):
                try:
                    said[prompt] = await self._answer(variant, prompt)
                except EditError as error:
                    refused[prompt] = error.message

        tasks = [asyncio.create_task(one(prompt)) for prompt in prompts]
        try:
            await asyncio.gather(*tasks)
        except TimeoutError as error:
            raise Unavailable(
                f"the model gave no answer within {self._timeout:g} s (--edit-probe-timeout)."
            ) from error
        finally:
            for task in tasks:
                task.cancel()
        return Answers(said, refused)

    async def _answer(self, variant: str, prompt: str) -> str:
        """Raises EditError where a client would get no answer."""
        wanted = {"prompt": prompt, "max_tokens": MAX_TOKENS, "temperature": 0.0}
        request = for_variant(self._names, {"model": self._names.served[0], **wanted}, variant)
        routed = await self._router.route(request, RoutingOptions(variant))
        if routed.answer is not None and self._counterfactual is not None:
            return await _counterfactual_answer(self._counterfactual, routed)
        return await complete(self._completions, routed.request)


async def _counterfactual_answer(model: Counterfactual, routed: Routed) -> str:
    assert routed.answer is not None  # noqa: S101
    parts: list[bytes] = []

    async def keep(message: Message) -> None:
        parts.append(message.get("body", b""))

    await model.answer(_PATH, routed.request, routed.answer.facts, keep)
    told = json.loads(b"".join(parts))
    if "choices" not in told:
        raise Unavailable(str(told))
    text: str = told["choices"][0]["text"]
    return text
