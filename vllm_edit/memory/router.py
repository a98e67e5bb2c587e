"""What memory does with a request: facts in front of it, another model's answer, or nothing."""

import asyncio
import logging
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

from retriever import Decision, Decompose, Delegate, Mello, Messages, Pass, Rewrite
from retriever.decision import PassReason
from retriever.parsed_request import ContextShare
from vllm_edit.domain.errors import EditError, RouteOverBudget, RoutingFailed
from vllm_edit.memory.context_room import ContextRoom
from vllm_edit.memory.hop_writer import HopWriter
from vllm_edit.memory.method import MemoryMethod
from vllm_edit.memory.metrics import ROUTING_FAILURES
from vllm_edit.memory.query import MemoryQuery
from vllm_edit.memory.routing_options import RoutingOptions
from vllm_edit.serac.serac import can_answer

logger = logging.getLogger(__name__)

Unrouted = Literal["over_budget", "routing_failed", "refused"]
"""Why a request passes of which it is not known whether an edit concerns it, or whose rewritten
form was refused."""


@dataclass(frozen=True)
class RoutingBudget:
    """The ``seconds`` that the routing of a request may take; None for no limit.

    Beyond them, or if routing goes wrong, the request ``fails``, or else is served as if no edit
    concerned it.
    """

    seconds: float | None = None
    fails: bool = False


@dataclass(frozen=True)
class RoutedRequest:
    """A request as it is to be served.

    ``decisions`` are those about its chat or about each of its prompts, in order; a single
    ``Delegate`` is for the counterfactual model. There are none if it is ``unrouted``.
    """

    request: dict[str, Any]
    decisions: tuple[Pass | Rewrite | Delegate, ...] = ()
    unrouted: Unrouted | None = None

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
        self,
        memory: MemoryMethod,
        mello: Mello,
        hop_writer: HopWriter,
        budget: RoutingBudget,
        room: ContextRoom | None = None,
    ) -> None:
        self._memory = memory
        self._mello = mello
        self._hop_writer = hop_writer
        self._budget = budget
        self._room = room

    @property
    def strict(self) -> "Router":
        """A router that takes as long as it needs, and raises RoutingFailed for a failure."""
        budget = RoutingBudget(fails=True)
        return Router(self._memory, self._mello, self._hop_writer, budget, self._room)

    async def route(self, request: Mapping[str, Any], options: RoutingOptions) -> RoutedRequest:
        """Decide on a request as vLLM would get it; whatever goes wrong, it passes untouched.

        Raises RouteOverBudget and RoutingFailed instead if the budget says so.
        """
        try:
            async with asyncio.timeout(self._budget.seconds):
                return await self._route(dict(request), options)
        except TimeoutError as error:
            if not self._budget.fails:
                return RoutedRequest(dict(request), unrouted="over_budget")
            raise RouteOverBudget(
                "It took too long to see whether an edit concerns the request; ask again, or "
                "raise --edit-route-budget-ms."
            ) from error
        except Exception as error:
            failed = routing_failed(error)
            if not self._budget.fails:
                return RoutedRequest(dict(request), unrouted="routing_failed")
            raise failed from error

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
        query = self._memory.query(content, options.variant, self._share(request))
        decision = await query.route(options.hops)
        more: dict[str, Any] = {}
        if isinstance(decision, Decompose):
            decision, more = await self._decompose(decision, request, query, options)
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

    async def preview(
        self, content: str | Messages, options: RoutingOptions
    ) -> Decision | Unrouted:
        """The decision about a prompt or a chat, as far as it is known without generating.

        Raises RoutingFailed where `route` does.
        """
        try:
            return await self._preview(content, options)
        except Exception as error:
            failed = routing_failed(error)
            if not self._budget.fails:
                return "routing_failed"
            raise failed from error

    async def _preview(self, content: str | Messages, options: RoutingOptions) -> Decision:
        field = "prompt" if isinstance(content, str) else "messages"
        query = self._memory.query(content, options.variant, self._share({field: content}))
        decision = await query.route(options.hops)
        if isinstance(decision, Pass):
            return await query.with_feedback(options.user) or decision
        if isinstance(decision, Delegate) and self._memory.counterfactual is None:
            return await query.put_facts_in_front(decision)
        return decision

    def _share(self, request: Mapping[str, Any]) -> ContextShare | None:
        return None if self._room is None else self._room.share(request)

    def _can_delegate(self, request: Mapping[str, Any]) -> bool:
        return self._memory.counterfactual is not None and can_answer(request)

    async def _decompose(
        self,
        decompose: Decompose,
        request: Mapping[str, Any],
        query: MemoryQuery,
        options: RoutingOptions,
    ) -> tuple[Pass | Rewrite, dict[str, Any]]:
        """The request behind its hops, and the other fields of it that change."""
        content = query.request
        if not isinstance(content, str) and content[-1].get("role") != "user":
            return Pass("out_of_scope"), {}
        solution = await self._mello.solve(
            decompose.question,
            partial(self._hop_writer.write, request=request),
            partial(self._memory.facts_in_scope, variant=options.variant),
        )
        if solution is None or not await query.has_room(solution.text):
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


_logged: set[tuple[type[BaseException], str, int]] = set()


def routing_failed(error: Exception) -> RoutingFailed:
    """The error for a failure of routing, which is counted, and logged the first time.

    Edits and requests hold any text there is: no failure of ours may cost a request its answer.
    """
    ROUTING_FAILURES.inc()
    place = traceback.extract_tb(error.__traceback__)[-1]
    kind = (type(error), place.filename, place.lineno or 0)
    if kind not in _logged:
        _logged.add(kind)
        logger.error(
            "A request could not be routed to its edits; failures like this one are counted in "
            "vllm_edit_routing_failures_total and not logged again.",
            exc_info=error,
        )
    message = error.message if isinstance(error, EditError) else repr(error)
    return RoutingFailed(f"It cannot be seen which edits concern the request: {message}")


def _with_stops(stop: object, more: tuple[str, ...]) -> object:
    """The field ``stop`` of a request with more stops; what vLLM will refuse stays as it is."""
    if stop is None or isinstance(stop, str):
        return [*([stop] if stop else []), *more] or None
    return [*stop, *more] if isinstance(stop, list) else stop


def _is_chat(messages: object) -> bool:
    return isinstance(messages, list) and all(isinstance(turn, dict) for turn in messages)
