"""One request, and the memory edits of one variant."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

from retriever import Decision, Delegate, Messages, Pass, RetrieverError, Rewrite
from retriever.memprompt import clarified
from vllm_edit.domain.errors import ComputeFailed
from vllm_edit.memory.variant_memory import VariantMemory


class MemoryQuery:
    """Asks a variant's memory about one prompt or chat, which is taken apart once.

    All methods raise ComputeFailed if a model of the retriever fails.
    """

    def __init__(self, memory: VariantMemory, request: str | Messages) -> None:
        self._memory = memory
        self._request = request
        self._parsed = memory.facts.parse(request)

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

    async def put_facts_in_front(self, delegate: Delegate) -> Rewrite:
        """See `Retriever.put_facts_in_front`."""
        with as_edit_errors():
            return await asyncio.to_thread(
                self._memory.facts.put_facts_in_front, delegate, self._request
            )

    async def with_feedback(self, user: str | None = None) -> Rewrite | None:
        """The request behind feedback on similar questions; None if there is none."""
        feedback = self._memory.feedback
        if not len(feedback):
            return None
        with as_edit_errors():
            recalled = await asyncio.to_thread(feedback.recall, self._parsed.question, user)
        return clarified(recalled, self._request) if recalled else None


@contextmanager
def as_edit_errors() -> Iterator[None]:
    """Raise ComputeFailed for an error of the retriever."""
    try:
        yield
    except RetrieverError as error:
        raise ComputeFailed(str(error), code=error.code) from error
