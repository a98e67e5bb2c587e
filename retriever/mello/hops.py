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
"""The facts in scope of a question, the most probable first."""


@dataclass(frozen=True, slots=True)
class Solution:
    """A question with the hops that lead to its answer."""

    hits: tuple[Hit, ...]
    """The facts used, in the order of the hops."""
    notes: str
    """The question, its hops, and the label that the answer follows."""
    text: str
    """The same after the demonstrations."""
    stop: tuple[str, ...]
    """Texts at which the answer has ended."""


@dataclass(frozen=True, slots=True)
class Mello:
    """Decomposes questions with a model's help; stateless.

    Unlike the original, a hop gets a fact only if one is in scope of its subquestion;
    otherwise its tentative answer stands.
    """

    format: HopFormat
    max_hops: int

    async def solve(self, question: str, generate: Generate, retrieve: Retrieve) -> Solution | None:
        """Solve a question; None if it needs no hops, meets no edit, or does not end."""
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
            matches = await retrieve(subquestion)
            hits += [hit for hit in matches[:1] if hit[0].id not in {fact.id for fact, _ in hits}]
            statement = matches[0][0].statement if matches else f"{subquestion} {tentative}"
            text += f"{written} {with_full_stop(statement)}"
        else:
            written = await generate(text)
        if not hits or not written.endswith(self.format.final):
            return None
        demonstrations = self.format.demonstrations
        stop = (f"\n{self.format.question}",) if demonstrations else ()
        text += written
        return Solution(tuple(hits), text[len(demonstrations) :], text, stop)

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
