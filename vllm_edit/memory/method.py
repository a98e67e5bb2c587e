"""Memory methods: facts retrieved and put in front of generation."""

import asyncio
from collections.abc import Hashable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

from starlette.types import Receive, Send

from retriever import (
    Answer,
    Decision,
    Fact,
    FeedbackMemory,
    InvalidFactError,
    Messages,
    Pass,
    Retriever,
    RetrieverError,
    Rewrite,
)
from retriever.mello.hops import Hit
from retriever.memprompt import clarified, question_of
from vllm_edit.domain.edit import Edit, EditRequest
from vllm_edit.domain.errors import ComputeFailed, InvalidEdit
from vllm_edit.domain.method import Change, Views
from vllm_edit.domain.variant import DEFAULT
from vllm_edit.memory.variant_memory import MEMPROMPT, VariantMemory, fact_of

SERAC = "serac"


class Counterfactual(Protocol):
    """The model that answers for SERAC."""

    async def answer(
        self,
        path: str,
        request: Mapping[str, Any],
        facts: Sequence[Fact],
        send: Send,
        receive: Receive | None = None,
    ) -> None:
        """Answer a request to the path from its facts, or raise EditError and send nothing."""

    async def close(self) -> None:
        """Let go of the model."""


class MemoryMethod:
    """Keeps a retriever for each variant equal to its memory edits, and asks it about requests.

    They are siblings of the one given, which stays empty.
    """

    names = frozenset({"ike", "mello", MEMPROMPT, SERAC})
    batched: frozenset[str] = frozenset()
    queued = False

    def __init__(
        self,
        retriever: Retriever,
        feedback: FeedbackMemory | None = None,
        counterfactual: Counterfactual | None = None,
    ) -> None:
        self._empty = VariantMemory(retriever, feedback or FeedbackMemory(retriever.encoder))
        self._variants: dict[str, VariantMemory] = {}
        self.counterfactual = counterfactual

    @property
    def offered(self) -> frozenset[str]:
        """The methods of new edits: SERAC only where there is a counterfactual model.

        Edits from when there was one are put in front of the served model instead.
        """
        return self.names if self.counterfactual else self.names - {SERAC}

    def labels(self, variant: str) -> Sequence[str]:
        return ()

    def check(self, requests: Sequence[EditRequest]) -> None:
        for request in requests:
            if request.user is not None and request.method != MEMPROMPT:
                raise InvalidEdit(
                    f"A fact is everybody's: only {MEMPROMPT} edits have a user.",
                    code="user_not_supported",
                    field="user",
                )
            if request.probes is not None and request.method == MEMPROMPT:
                raise InvalidEdit(
                    "What feedback makes of an answer is not known beforehand: it has no probes.",
                    code="probes_not_supported",
                    field="probes",
                )
            try:
                self._empty.facts.check(fact_of("new", request))
            except InvalidFactError as error:
                raise InvalidEdit(str(error), code=error.code, field=error.field) from error

    def fact(self, request: EditRequest) -> Hashable:
        about = fact_of("any", request).about
        # Feedback on a question takes the place of no fact, nor of another user's feedback.
        return (MEMPROMPT, request.user, about) if request.method == MEMPROMPT else about

    def warnings(self, edit_id: str) -> Sequence[str]:
        return ()

    def drift(self, edit_id: str) -> float | None:
        return None

    async def prepare(self) -> None:
        with _reported():
            await asyncio.to_thread(self._empty.facts.warm_up)

    @property
    def views(self) -> Views:
        return {variant: list(known.edits.values()) for variant, known in self._variants.items()}

    async def tidy(self, edits: Sequence[Edit]) -> None:
        pass

    async def compute(self, change: Change) -> None:
        """Embedding is quick enough to be part of ``apply``."""

    def ready(self, change: Change, computed: None) -> bool:
        return True

    async def apply(self, change: Change, computed: None, revision: int) -> None:
        # The new facts hide those of which they are later versions, which can then go unseen.
        with _reported():
            for variant in change.variants:
                known = self._variants.setdefault(variant, self._empty.sibling())
                await asyncio.to_thread(known.add, change.coming)
                for edit in change.leaving:
                    await asyncio.to_thread(known.remove, edit)

    async def drop(self, variant: str) -> None:
        self._variants.pop(variant, None)

    async def forget(self, edits: Sequence[Edit]) -> None:
        pass

    async def close(self) -> None:
        if self.counterfactual is not None:
            await self.counterfactual.close()

    def empty(self, variant: str = DEFAULT) -> bool:
        """Whether no request of the variant can be concerned by any edit."""
        return len(self._variants.get(variant, self._empty)) == 0

    async def route(
        self, request: str | Messages, variant: str = DEFAULT, hops: bool | None = None
    ) -> Decision:
        """What the variant's facts have to say about a prompt or a chat; see `Retriever.route`."""
        known = self._variants.get(variant, self._empty)
        # A thread costs more than most requests do.
        if decided := known.facts.route_at_once(request):
            return decided
        with _reported():
            return await asyncio.to_thread(known.facts.route, request, hops)

    async def direct(
        self, request: str | Messages, variant: str = DEFAULT
    ) -> Pass | Rewrite | Answer:
        """The same for a request that is of no hops."""
        known = self._variants.get(variant, self._empty)
        with _reported():
            return await asyncio.to_thread(known.facts.direct, request)

    async def concerning(self, question: str, variant: str = DEFAULT) -> Sequence[Hit]:
        """The variant's facts in scope of a question, the surest first."""
        known = self._variants.get(variant, self._empty)
        with _reported():
            return await asyncio.to_thread(known.facts.concerning, question)

    async def in_front(
        self, answer: Answer, request: str | Messages, variant: str = DEFAULT
    ) -> Rewrite:
        """The facts of an answer put in front, where the counterfactual model cannot answer."""
        known = self._variants.get(variant, self._empty)
        with _reported():
            return await asyncio.to_thread(known.facts.in_front, answer, request)

    async def recall(
        self, request: str | Messages, variant: str = DEFAULT, user: str | None = None
    ) -> Rewrite | None:
        """The request behind feedback on questions like it, if there is any."""
        feedback = self._variants.get(variant, self._empty).feedback
        if not len(feedback):
            return None
        with _reported():
            found = await asyncio.to_thread(feedback.recall, question_of(request), user)
        return clarified(found, request) if found else None


@contextmanager
def _reported() -> Iterator[None]:
    """Turns an error of the retriever's into one of this package's."""
    try:
        yield
    except RetrieverError as error:
        raise ComputeFailed(str(error), code=error.code) from error
