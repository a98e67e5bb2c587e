"""Memory methods: facts retrieved and put in front of generation."""

import asyncio
from collections.abc import Hashable, Iterator, Sequence
from contextlib import contextmanager

from retriever import Fact, InvalidFactError, Messages, Pass, Retriever, RetrieverError, Rewrite
from vllm_edit.edit import Edit, EditRequest, Status
from vllm_edit.errors import ComputeFailed, InvalidEdit
from vllm_edit.methods import Change


class MemoryMethod:
    """Keeps the retriever equal to the active memory edits, and asks it about requests."""

    names = frozenset({"ike"})
    batched: frozenset[str] = frozenset()
    queued = False
    labels: tuple[str, ...] = ()

    def __init__(self, retriever: Retriever) -> None:
        self._retriever = retriever

    def check(self, requests: Sequence[EditRequest]) -> None:
        for request in requests:
            try:
                self._retriever.check(_fact("new", request))
            except InvalidFactError as error:
                raise InvalidEdit(str(error), code=error.code, field=error.field) from error

    def fact(self, request: EditRequest) -> Hashable:
        return _fact("any", request).about

    def warnings(self, edit_id: str) -> Sequence[str]:
        return ()

    async def prepare(self) -> None:
        with _reported():
            await asyncio.to_thread(self._retriever.warm_up)

    async def restore(self, edits: Sequence[Edit], revision: int) -> None:
        active = [edit for edit in edits if edit.status is Status.ACTIVE]
        await self.apply(Change(coming=active), None, revision)

    async def compute(self, change: Change) -> None:
        """Embedding is quick enough to be part of ``apply``."""

    def ready(self, change: Change, computed: None) -> bool:
        return True

    async def apply(self, change: Change, computed: None, revision: int) -> None:
        # The new facts hide those of which they are later versions, which can then go unseen.
        with _reported():
            facts = [_fact(edit.id, edit.request) for edit in change.coming]
            await asyncio.to_thread(self._retriever.add_many, facts)
            for edit in change.leaving:
                await asyncio.to_thread(self._retriever.remove, edit.id)

    async def forget(self, edits: Sequence[Edit]) -> None:
        pass

    async def close(self) -> None:
        pass

    @property
    def empty(self) -> bool:
        """Whether no request can be concerned by any edit."""
        return len(self._retriever) == 0

    async def route(self, request: str | Messages) -> Pass | Rewrite:
        """What the retriever says about a prompt or a chat."""
        return await asyncio.to_thread(self._retriever.route, request)


@contextmanager
def _reported() -> Iterator[None]:
    """Turns an error of the retriever's into one of this package's."""
    try:
        yield
    except RetrieverError as error:
        raise ComputeFailed(str(error), code=error.code) from error


def _fact(fact_id: str, request: EditRequest) -> Fact:
    return Fact(
        id=fact_id,
        subject=request.subject,
        prompt=request.prompt,
        target_new=request.target_new,
        ground_truth=request.ground_truth,
    )
