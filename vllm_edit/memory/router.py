"""What memory does with a request: facts in front of it, another model's answer, or nothing."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from retriever import Decision, Decompose, Delegate, Mello, Messages, Pass, Rewrite
from retriever.decision import PassReason
from vllm_edit.domain.errors import RouteOverBudget
from vllm_edit.memory.hop_writer import HopWriter
from vllm_edit.memory.method import MemoryMethod
from vllm_edit.memory.routing_options import RoutingOptions
from vllm_edit.serac.serac import can_answer

OVER_BUDGET = "over_budget"


@dataclass(frozen=True)
class RoutingBudget:
    """The ``seconds`` that the routing of a request may take; None for no limit.

    Beyond them the request ``fails``, or else is served as if no edit concerned it.
    """

    seconds: float | None = None
    fails: bool = False


@dataclass(frozen=True)
class RoutedRequest:
    """A request as it is to be served.

    ``decisions`` are those about its chat or about each of its prompts, in order; a single
    ``Delegate`` is for the counterfactual model. There are none if the budget was exceeded.
    """

    request: dict[str, Any]
    decisions: tuple[Pass | Rewrite | Delegate, ...] = ()
    over_budget: bool = False

    @property
    def used(self) -> list[Rewrite | Delegate]:
        """The decisions that use edits."""
        return [decision for decision in self.decisions if not isinstance(decision, Pass)]

    @property
    def pass_reasons(self) -> list[PassReason]:
        """Why no edit concerns a prompt, for each that none concerns."""
        return [decision.reason for decision in self.decisions if isinstance(decision, Pass)]

    @property
    def delegate(self) -> Delegate | None:
        """What the counterfactual model is to answer from, if it answers the request."""
        only = self.decisions[0] if len(self.decisions) == 1 else None
        return only if isinstance(only, Delegate) else None


class Router:
    """Asks the memory about requests, and the served model about hops."""

    def __init__(
        self, memory: MemoryMethod, mello: Mello, hop_writer: HopWriter, budget: RoutingBudget
    ) -> None:
        self._memory = memory
        self._mello = mello
        self._hop_writer = hop_writer
        self._budget = budget

    @property
    def without_budget(self) -> "Router":
        """A router that takes as long as it needs."""
        return Router(self._memory, self._mello, self._hop_writer, RoutingBudget())

    async def route(self, request: Mapping[str, Any], options: RoutingOptions) -> RoutedRequest:
        """Decide on a request as vLLM would get it; raises RouteOverBudget."""
        try:
            async with asyncio.timeout(self._budget.seconds):
                return await self._route(dict(request), options)
        except TimeoutError as error:
            if not self._budget.fails:
                return RoutedRequest(dict(request), over_budget=True)
            raise RouteOverBudget(
                "It took too long to see whether an edit concerns the request; ask again, or "
                "raise --edit-route-budget-ms."
            ) from error

    async def _route(self, request: dict[str, Any], options: RoutingOptions) -> RoutedRequest:
        prompt = request.get("prompt")
        if _is_chat(request.get("messages")):
            return await self._route_one(request, "messages", options)
        if isinstance(prompt, str):
            return await self._route_one(request, "prompt", options)
        if isinstance(prompt, list) and all(isinstance(text, str) for text in prompt):
            return await self._route_list(request, prompt, options)
        return RoutedRequest(request)

    async def _route_list(
        self, request: dict[str, Any], prompts: Sequence[str], options: RoutingOptions
    ) -> RoutedRequest:
        # One response comes from one model: the served one answers where prompts are several.
        delegates = len(prompts) == 1
        parts = await asyncio.gather(
            *(
                self._route_one({**request, "prompt": text}, "prompt", options, delegates)
                for text in prompts
            )
        )
        texts = [part.request["prompt"] for part in parts]
        decisions = tuple(decision for part in parts for decision in part.decisions)
        return RoutedRequest({**request, "prompt": texts}, decisions)

    async def _route_one(
        self, request: dict[str, Any], field: str, options: RoutingOptions, delegates: bool = True
    ) -> RoutedRequest:
        """Route a request whose one text or chat is in ``field``."""
        content: str | Messages = request[field]
        query = self._memory.query(content, options.variant)
        decision = await query.route(options.hops)
        more: dict[str, Any] = {}
        if isinstance(decision, Decompose):
            decision, more = await self._decompose(decision, request, content, options)
            if isinstance(decision, Pass):
                decision = await query.route_without_hops()
        if isinstance(decision, Pass):
            decision = await query.with_feedback(options.user) or decision
        if isinstance(decision, Delegate) and not (delegates and self._can_delegate(request)):
            decision = await query.put_facts_in_front(decision)
        if isinstance(decision, Rewrite):
            routed = decision.text if decision.messages is None else list(decision.messages)
            request = {**request, field: routed, **more}
        return RoutedRequest(request, (decision,))

    async def preview(self, content: str | Messages, options: RoutingOptions) -> Decision:
        """The decision about a prompt or a chat, as far as it is known without generating."""
        query = self._memory.query(content, options.variant)
        decision = await query.route(options.hops)
        if isinstance(decision, Pass):
            return await query.with_feedback(options.user) or decision
        if isinstance(decision, Delegate) and self._memory.counterfactual is None:
            return await query.put_facts_in_front(decision)
        return decision

    def _can_delegate(self, request: Mapping[str, Any]) -> bool:
        return self._memory.counterfactual is not None and can_answer(request)

    async def _decompose(
        self,
        decompose: Decompose,
        request: Mapping[str, Any],
        content: str | Messages,
        options: RoutingOptions,
    ) -> tuple[Pass | Rewrite, dict[str, Any]]:
        """The request behind its hops, and the other fields of it that change."""
        if not isinstance(content, str) and content[-1].get("role") != "user":
            return Pass("out_of_scope"), {}
        solution = await self._mello.solve(
            decompose.question,
            partial(self._hop_writer.write, request=request),
            partial(self._memory.facts_in_scope, variant=options.variant),
        )
        if solution is None:
            return Pass("out_of_scope"), {}
        ids = tuple(fact.id for fact, _ in solution.hits)
        scores = tuple(score for _, score in solution.hits)
        if isinstance(content, str):
            more = {"stop": _with_stops(request.get("stop"), solution.stop)}
            return Rewrite(ids, scores, "mello", text=solution.text), more
        # The served model continues its own turn, which begins with the notes.
        turn = {"role": "assistant", "content": solution.notes}
        more = {"add_generation_prompt": False, "continue_final_message": True}
        return Rewrite(ids, scores, "mello", messages=(*content, turn)), more


def _with_stops(stop: object, more: tuple[str, ...]) -> object:
    """The field ``stop`` of a request with more stops; what vLLM will refuse stays as it is."""
    if stop is None or isinstance(stop, str):
        return [*([stop] if stop else []), *more] or None
    return [*stop, *more] if isinstance(stop, list) else stop


def _is_chat(messages: object) -> bool:
    return isinstance(messages, list) and all(isinstance(turn, dict) for turn in messages)
