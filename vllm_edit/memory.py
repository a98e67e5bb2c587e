"""Memory methods: facts retrieved and put in front of generation."""

import asyncio
from collections.abc import Callable, Sequence

from retriever import Fact, Message, Pass, Retriever, RetrieverError, Rewrite
from vllm_edit.edit import Edit
from vllm_edit.errors import ComputeFailed


class MemoryMethod:
    """Keeps the retriever equal to the active memory edits, and asks it about requests.

    ``build`` makes the retriever. It is called once, in a thread, when the server has started
    or when the first edit needs it: loading an encoder takes seconds.
    """

    names = frozenset({"ike"})
    queued = False
    labels: tuple[str, ...] = ()

    def __init__(self, build: Callable[[], Retriever]) -> None:
        self._build = build
        self._building = asyncio.Lock()
        self._retriever: Retriever | None = None

    async def prepare(self) -> None:
        await self._ready()

    async def restore(self, edits: Sequence[Edit], revision: int) -> None:
        if edits:
            await self.apply(edits, await self.compute(edits), revision)

    async def compute(self, edits: Sequence[Edit]) -> dict[str, Fact]:
        await self._ready()
        return {edit.id: _fact(edit) for edit in edits}

    async def apply(self, edits: Sequence[Edit], computed: dict[str, Fact], revision: int) -> None:
        retriever = await self._ready()
        try:
            await asyncio.to_thread(retriever.add_many, [computed[edit.id] for edit in edits])
        except RetrieverError as error:
            raise ComputeFailed(str(error), code=error.code) from error

    async def deactivate(self, edit: Edit, revision: int) -> None:
        retriever = await self._ready()
        await asyncio.to_thread(retriever.remove, edit.id)

    async def close(self) -> None:
        self._retriever = None

    @property
    def empty(self) -> bool:
        """Whether no request can be concerned by any edit."""
        return self._retriever is None or len(self._retriever) == 0

    async def route(self, request: str | Sequence[Message]) -> Pass | Rewrite:
        """What the retriever says about a prompt or a chat."""
        retriever = await self._ready()
        return await asyncio.to_thread(retriever.route, request)

    async def _ready(self) -> Retriever:
        async with self._building:
            if self._retriever is None:
                try:
                    self._retriever = await asyncio.to_thread(self._build)
                except RetrieverError as error:
                    raise ComputeFailed(str(error), code=error.code) from error
        return self._retriever


def _fact(edit: Edit) -> Fact:
    return Fact(
        id=edit.id,
        subject=edit.request.subject,
        prompt=edit.request.prompt,
        target_new=edit.request.target_new,
        ground_truth=edit.request.ground_truth,
    )
