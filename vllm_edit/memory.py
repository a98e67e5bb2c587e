"""Memory methods: facts retrieved and put in front of generation."""

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from retriever import Fact, InvalidFactError, Messages, Pass, Retriever, RetrieverError, Rewrite
from vllm_edit.edit import Edit, EditRequest
from vllm_edit.errors import ComputeFailed, InvalidEdit


class MemoryMethod:
    """Keeps the retriever equal to the active memory edits, and asks it about requests."""

    names = frozenset({"ike"})
    queued = False
    labels: tuple[str, ...] = ()

    def __init__(self, retriever: Retriever) -> None:
        self._retriever = retriever

    def check(self, request: EditRequest) -> None:
        try:
            self._retriever.check(_fact("new", request))
        except InvalidFactError as error:
            raise InvalidEdit(str(error), code=error.code, field=error.field) from error

    async def prepare(self) -> None:
        with _reported():
            await asyncio.to_thread(self._retriever.warm_up)

    async def restore(self, edits: Sequence[Edit], revision: int) -> None:
        if edits:
            await self.apply(edits, await self.compute(edits), revision)

    async def compute(self, edits: Sequence[Edit]) -> dict[str, Fact]:
        return {edit.id: _fact(edit.id, edit.request) for edit in edits}

    async def apply(self, edits: Sequence[Edit], computed: dict[str, Fact], revision: int) -> None:
        with _reported():
            await asyncio.to_thread(self._retriever.add_many, [computed[edit.id] for edit in edits])

    async def deactivate(self, edit: Edit, revision: int) -> None:
        await asyncio.to_thread(self._retriever.remove, edit.id)

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
