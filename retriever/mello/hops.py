"""The loop of MeLLo (Zhong et al. 2023): subquestion, tentative answer, retrieved fact."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from retriever.fact import Fact
from retriever.mello.format import HopFormat
from retriever.text import name_of, with_full_stop

Hit = tuple[Fact, float]
Generate = Callable[[str], Awaitable[str]]
"""The served model's continuation of a text, greedy, up to the first of the format's stops, which
is part of it."""
Retrieve = Callable[[str], Awaitable[Sequence[Hit]]]
"""The facts in scope of a question, the surest first."""


@dataclass(frozen=True, slots=True)
class Solution:
    """A question with the hops that lead to its answer."""

    hits: tuple[Hit, ...]
    """The facts that hops met, in their order."""
    notes: str
    """The question, its hops, and the label that the answer is to follow."""
    text: str
    """The same after the demonstrations."""
    stop: tuple[str, ...]
    """Where the model would go on beyond the answer."""


@dataclass(frozen=True, slots=True)
class Mello:
    """Takes questions apart with a model's help; stateless.

    Unlike the original, a hop is given a fact only if one is in scope of its subquestion; else its
    tentative answer stands.
    """

    format: HopFormat
    max_hops: int

    async def solve(self, question: str, generate: Generate, retrieve: Retrieve) -> Solution | None:
        """The hops of a question; None if it needs none, meets no edit, or comes to no end."""
        text, hits = self.format.begin(question), list[Hit]()
        for _ in range(self.max_hops):
            written = await generate(text)
            if written.endswith(self.format.final):
                break
            hop = self._read(written)
            if hop is None:
                return None
            subquestion, tentative = hop
            if name_of(subquestion) == name_of(question):
                # It asks for one fact, and needs no hops.
                return None
            found = await retrieve(subquestion)
            hits += [hit for hit in found[:1] if hit[0].id not in {fact.id for fact, _ in hits}]
            given = found[0][0].statement if found else f"{subquestion} {tentative}"
            text += f"{written} {with_full_stop(given)}"
        else:
            written = await generate(text)
        if not hits or not written.endswith(self.format.final):
            return None
        shown = self.format.demonstrations
        more = (f"\n{self.format.question}",) if shown else ()
        text += written
        return Solution(tuple(hits), text[len(shown) :], text, more)

    def _read(self, written: str) -> tuple[str, str] | None:
        """The subquestion and the tentative answer of a hop, if that is what was written."""
        if not written.endswith(self.format.retrieved):
            return None
        subquestion = _after(self.format.subquestion, written)
        tentative = _after(self.format.tentative, written)
        return (subquestion, tentative) if subquestion and tentative else None


def _after(label: str, text: str) -> str:
    """The rest of the last line that begins with the label."""
    return text.rpartition(label)[2].partition("\n")[0].strip() if label in text else ""
