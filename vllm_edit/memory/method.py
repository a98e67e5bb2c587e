"""Memory methods: facts retrieved and put in front of generation."""

import asyncio
from collections.abc import Hashable, Sequence

from retriever import (
    EncoderUnavailableError,
    FeedbackMemory,
    InvalidClassifierError,
    InvalidFactError,
    Messages,
    Retriever,
    RetrieverError,
)
from retriever.mello.hops import Hit
from retriever.parsed_request import ContextShare
from vllm_edit.domain.edit import Edit, EditRequest
from vllm_edit.domain.errors import ComputeFailed, InvalidEdit
from vllm_edit.domain.method import EditsByVariant, MethodChange
from vllm_edit.domain.neuron import Neuron
from vllm_edit.domain.variant import DEFAULT
from vllm_edit.memory.counterfactual_model import CounterfactualModel
from vllm_edit.memory.query import MemoryQuery, as_edit_errors
from vllm_edit.memory.variant_memory import MEMPROMPT, VariantMemory, fact_of

SERAC = "serac"

_UNUSABLE = (EncoderUnavailableError, InvalidClassifierError)
"""Errors of the retriever's models, of which no edit is the cause."""


class MemoryMethod:
    """Keeps a memory for each variant equal to its edits, and asks it about requests.

    All of them share the models and settings of ``retriever`` and ``feedback``, which stay empty.
    """

    names = frozenset({"ike", "mello", MEMPROMPT, SERAC})
    batched: frozenset[str] = frozenset()
    queued = False
    asked = names - {MEMPROMPT}  # the right answer after feedback is not known
    must_tell = frozenset({"ike", SERAC})  # mello's are for questions of several hops

    def __init__(
        self,
        retriever: Retriever,
        feedback: FeedbackMemory | None = None,
        counterfactual: CounterfactualModel | None = None,
    ) -> None:
        self._empty = VariantMemory(retriever, feedback or FeedbackMemory(retriever.encoder))
        self._variants: dict[str, VariantMemory] = {}
        self.counterfactual = counterfactual

    @property
    def offered(self) -> frozenset[str]:
        """The methods of new edits: SERAC only if there is a counterfactual model.

        Without one, existing SERAC edits are put in front of requests to the served model.
        """
        return self.names if self.counterfactual else self.names - {SERAC}

    def labels(self, variant: str) -> Sequence[str]:
        return ()

    def check(self, requests: Sequence[EditRequest]) -> None:
        for request in requests:
            if request.user is not None and request.method != MEMPROMPT:
                raise InvalidEdit(
                    f"Only {MEMPROMPT} edits can have a user; a fact is for every user.",
                    code="user_not_supported",
                    field="user",
                )
            if request.probes is not None and request.method == MEMPROMPT:
                raise InvalidEdit(
                    "The answer that feedback leads to is not known in advance: it has no probes.",
                    code="probes_not_supported",
                    field="probes",
                )
            try:
                self._empty.facts.check(fact_of("new", request))
            except InvalidFactError as error:
                raise InvalidEdit(str(error), code=error.code, field=error.field) from error

    def fact(self, request: EditRequest) -> Hashable:
        about = fact_of("any", request).about
        # Feedback replaces neither a fact nor another user's feedback.
        return (MEMPROMPT, request.user, about) if request.method == MEMPROMPT else about

    def warnings(self, edit_id: str) -> Sequence[str]:
        return ()

    def drift(self, edit_id: str) -> float | None:
        return None

    def neurons(self, edit_id: str) -> Sequence[Neuron]:
        return ()

    def places(self, edit_id: str) -> frozenset[str]:
        return frozenset()

    def take_renewed(self) -> Sequence[str]:
        return ()

    async def prepare(self) -> None:
        with as_edit_errors():
            await asyncio.to_thread(self._empty.facts.warm_up)

    @property
    def edits_by_variant(self) -> EditsByVariant:
        return {variant: list(memory.edits.values()) for variant, memory in self._variants.items()}

    def serves(self, edit_id: str) -> bool:
        return any(edit_id in memory.edits for memory in self._variants.values())

    async def tidy(self, edits: Sequence[Edit]) -> None:
        pass

    async def compute(self, change: MethodChange) -> None:
        """Embedding is quick enough to be part of ``apply``."""

    def ready(self, change: MethodChange, computed: None) -> bool:
        return True

    async def apply(self, change: MethodChange, computed: None, revision: int) -> None:
        # New facts hide the versions that they replace, so these can be removed afterwards.
        changed = [
            self._variants[variant] if variant in self._variants else self._empty.empty_copy()
            for variant in change.variants
        ]
        added: list[VariantMemory] = []
        try:
            for memory in changed:
                await asyncio.to_thread(memory.add, change.coming)
                added.append(memory)
        except Exception as error:
            # An edit may hold any text there is, and must cost no other one its effect.
            for memory in added:
                memory.discard(change.coming)
            raise await asyncio.to_thread(self._failure, change.coming, error) from error
        for variant, memory in zip(change.variants, changed, strict=True):
            self._variants[variant] = memory
            memory.discard(change.leaving)

    def _failure(self, edits: Sequence[Edit], error: Exception) -> ComputeFailed:
        """The error of edits that could not be added, with those that cannot be added alone.

        If a model cannot be loaded, none of them is at fault.
        """
        code = error.code if isinstance(error, RetrieverError) else ComputeFailed.code
        reasons: dict[str, str] = {}
        if not isinstance(error, _UNUSABLE):
            for edit in edits:
                try:
                    self._empty.empty_copy().add([edit])
                except Exception as alone:  # noqa: BLE001 - it is told of the edit
                    reasons[edit.id] = _reason(alone)
        return ComputeFailed(_reason(error), code=code, reasons=reasons)

    async def drop(self, variant: str) -> None:
        self._variants.pop(variant, None)

    async def forget(self, edits: Sequence[Edit]) -> None:
        pass

    async def close(self) -> None:
        if self.counterfactual is not None:
            await self.counterfactual.close()

    def empty(self, variant: str = DEFAULT) -> bool:
        """Whether the variant has no memory edits."""
        return len(self._of(variant)) == 0

    def query(
        self,
        request: str | Messages,
        variant: str = DEFAULT,
        context: ContextShare | None = None,
    ) -> MemoryQuery:
        """A query to the variant's edits about a prompt or a chat; see `MemoryQuery`."""
        return MemoryQuery(self._of(variant), request, context)

    async def facts_in_scope(self, question: str, variant: str = DEFAULT) -> Sequence[Hit]:
        """The variant's facts in scope of a question, the surest first."""
        with as_edit_errors():
            return await asyncio.to_thread(self._of(variant).facts.facts_in_scope, question)

    def _of(self, variant: str) -> VariantMemory:
        return self._variants.get(variant, self._empty)


def _reason(error: Exception) -> str:
    if isinstance(error, RetrieverError):
        return str(error)
    return f"It cannot be kept in memory ({error!r}); report this, and word it otherwise."
