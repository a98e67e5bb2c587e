"""One request, and the memory edits of one variant."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

from retriever import Decision, Delegate, Messages, Pass, RetrieverError, Rewrite
from retriever.memprompt import clarification, clarified
from retriever.parsed_request import ContextShare
from vllm_edit.domain.errors import ComputeFailed
from vllm_edit.memory.variant_memory import VariantMemory


class MemoryQuery:
    """Asks a variant's memory about one prompt or chat, which is taken apart once.

    ``context`` is what it may take, see `Retriever.parse`. All methods raise ComputeFailed if a
    model of the retriever fails.
    """

    def __init__(
        self, memory: VariantMemory, request: str | Messages, context: ContextShare | None = None
    ) -> None:
        self._memory = memory
        self.request = request
        self._parsed = memory.facts.parse(request, context)

    async def route(self, hops: bool | None = None) -> Decision:
        """See `Retriever.route`."""
        # Most requests pass in less time than a thread takes to start.
        if quick := self._memory.facts.quick_pass(self._parsed):
            return quick
        with as_edit_errors():
            return await asyncio.to_thread(self._memory.facts.route, self._parsed, hops)

    async def route_without_hops(self) -> Pass | Rewrite | Delegate:
        """See `Retriever.route_without_hops`."""
        with as_edit_errors():
            return await asyncio.to_thread(self._memory.facts.route_without_hops, self._parsed)

    async def put_facts_in_front(self, delegate: Delegate) -> Rewrite | Pass:
        """See `Retriever.put_facts_in_front`."""
        with as_edit_errors():
            return await asyncio.to_thread(
                self._memory.facts.put_facts_in_front, delegate, self._parsed
            )

    async def has_room(self, text: str) -> bool:
        """Whether the text can be put in front of the request."""
        return await asyncio.to_thread(self._memory.facts.has_room, self._parsed, text)

    async def with_feedback(self, user: str | None = None) -> Rewrite | None:
        """The request behind feedback on similar questions; None if there is none that fits."""
        feedback = self._memory.feedback
        if not len(feedback):
            return None
        with as_edit_errors():
            recalled = await asyncio.to_thread(feedback.recall, self._parsed.question, user)
        if not recalled or not await self.has_room(clarification(recalled)):
            return None
        return clarified(recalled, self.request)


@contextmanager
def as_edit_errors() -> Iterator[None]:
    """Raise ComputeFailed for an error of the retriever."""
    try:
        yield
    except RetrieverError as error:
        raise ComputeFailed(str(error), code=error.code) from error
