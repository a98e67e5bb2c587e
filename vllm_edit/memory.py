"""Memory methods: facts retrieved and put in front of generation."""

import asyncio
from collections.abc import Hashable, Iterator, Sequence
from contextlib import contextmanager

from retriever import Fact, InvalidFactError, Messages, Pass, Retriever, RetrieverError, Rewrite
from vllm_edit.edit import Edit, EditRequest
from vllm_edit.errors import ComputeFailed, InvalidEdit
from vllm_edit.methods import Change, Views
from vllm_edit.variant import DEFAULT


class MemoryMethod:
    """Keeps a retriever for each variant equal to its memory edits, and asks it about requests.

    They are siblings of the one given, which stays empty.
    """

    names = frozenset({"ike"})
    batched: frozenset[str] = frozenset()
    queued = False

    def __init__(self, retriever: Retriever) -> None:
        self._empty = retriever
        self._retrievers: dict[str, Retriever] = {}
        self._views: dict[str, dict[str, Edit]] = {}

    def labels(self, variant: str) -> Sequence[str]:
        return ()

    def check(self, requests: Sequence[EditRequest]) -> None:
        for request in requests:
            try:
                self._empty.check(_fact("new", request))
            except InvalidFactError as error:
                raise InvalidEdit(str(error), code=error.code, field=error.field) from error

    def fact(self, request: EditRequest) -> Hashable:
        return _fact("any", request).about

    def warnings(self, edit_id: str) -> Sequence[str]:
        return ()

    async def prepare(self) -> None:
        with _reported():
            await asyncio.to_thread(self._empty.warm_up)

    @property
    def views(self) -> Views:
        return {variant: list(edits.values()) for variant, edits in self._views.items()}

    async def tidy(self, edits: Sequence[Edit]) -> None:
        pass

    async def compute(self, change: Change) -> None:
        """Embedding is quick enough to be part of ``apply``."""

    def ready(self, change: Change, computed: None) -> bool:
        return True

    async def apply(self, change: Change, computed: None, revision: int) -> None:
        # The new facts hide those of which they are later versions, which can then go unseen.
        with _reported():
            facts = [_fact(edit.id, edit.request) for edit in change.coming]
            for variant in change.variants:
                retriever = self._retrievers.setdefault(variant, self._empty.sibling())
                await asyncio.to_thread(retriever.add_many, facts)
                for edit in change.leaving:
                    await asyncio.to_thread(retriever.remove, edit.id)
                view = self._views.setdefault(variant, {})
                view |= {edit.id: edit for edit in change.coming}
                for edit in change.leaving:
                    view.pop(edit.id, None)

    async def drop(self, variant: str) -> None:
        self._retrievers.pop(variant, None)
        self._views.pop(variant, None)

    async def forget(self, edits: Sequence[Edit]) -> None:
        pass

    async def close(self) -> None:
        pass

    def empty(self, variant: str = DEFAULT) -> bool:
        """Whether no request of the variant can be concerned by any edit."""
        return len(self._retrievers.get(variant, self._empty)) == 0

    async def route(self, request: str | Messages, variant: str = DEFAULT) -> Pass | Rewrite:
        """What the variant's retriever says about a prompt or a chat."""
        retriever = self._retrievers.get(variant, self._empty)
        return await asyncio.to_thread(retriever.route, request)


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
