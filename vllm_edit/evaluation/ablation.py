"""What a memory would achieve without its gate, or with a perfect one.

Both show facts in the prompt as IKE does. Neither makes an edit: they bound what one can do.
"""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from retriever import Fact, Retriever
from vllm_edit.domain.errors import InvalidData
from vllm_edit.evaluation.in_front import InFront, always
from vllm_edit.evaluation.plan import ABLATIONS, FACT_IN_PROMPT
from vllm_edit.evaluation.record import RequestedRewrite
from vllm_edit.evaluation.target import AppliedEdits


def facts_of(rewrites: Sequence[RequestedRewrite], first: int) -> list[Fact]:
    """The rewrites as facts, numbered from `first` on."""
    return [
        Fact(str(number), r.subject, r.prompt, r.target_new, r.ground_truth)
        for number, r in enumerate(rewrites, first)
    ]


class Ablation:
    """An `EditApplier` that only remembers facts, and what it puts in front of every question.

    `plain-retrieval`: the fact whose prompt the encoder finds most like the question.
    `fact-in-prompt`: the facts of the one record that is in effect.
    """

    def __init__(self, name: str, retriever: Retriever) -> None:
        if name not in ABLATIONS:
            raise InvalidData(f"There is no ablation {name!r}.", field="methods")
        self._all = name == FACT_IN_PROMPT
        self._retriever = retriever
        self._facts: list[Fact] = []
        self.in_front = InFront(always(retriever, self._shown))

    def apply(self, rewrites: Sequence[RequestedRewrite]) -> AppliedEdits:
        start = time.perf_counter()
        self._facts += facts_of(rewrites, len(self._facts))
        return AppliedEdits(time.perf_counter() - start, len(rewrites), ())

    def expect(self, singles: Sequence[Sequence[RequestedRewrite]]) -> None:
        """Nothing can be made beforehand."""

    @contextmanager
    def clean_state(self) -> Iterator[None]:
        try:
            yield
        finally:
            self._facts.clear()

    def _shown(self, question: str) -> list[Fact]:
        if self._all or not self._facts:
            return self._facts
        encoder = self._retriever.encoder
        likeness = (
            encoder.encode([fact.prompt for fact in self._facts]) @ encoder.encode([question])[0]
        )
        return [self._facts[int(likeness.argmax())]]
