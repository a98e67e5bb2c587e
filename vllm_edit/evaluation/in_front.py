"""What a memory puts in front of a question before the model reads it."""

from collections.abc import Callable
from dataclasses import dataclass

from retriever import Delegate, Fact, Messages, Pass, Retriever, Rewrite

Decide = Callable[[str | Messages], Pass | Rewrite | Delegate]


@dataclass(frozen=True)
class InFront:
    """Rewrites texts and chats as `decide` says; without it, nothing is put in front."""

    decide: Decide | None = None

    def text(self, prompt: str) -> str:
        """The prompt behind the facts that concern it."""
        decision = None if self.decide is None else self.decide(prompt)
        if isinstance(decision, Rewrite) and decision.text is not None:
            return decision.text
        return prompt

    def chat(self, messages: Messages) -> Messages:
        """The same for a chat."""
        decision = None if self.decide is None else self.decide(messages)
        if isinstance(decision, Rewrite) and decision.messages is not None:
            return decision.messages
        return messages


NOTHING = InFront()


def always(retriever: Retriever, facts: Callable[[str], list[Fact]]) -> Decide:
    """Puts `facts` of the question's text in front in the retriever's way, without its gate."""

    def decide(request: str | Messages) -> Pass | Rewrite | Delegate:
        question = request if isinstance(request, str) else str(request[-1]["content"])
        found = tuple(facts(question))
        if not found:
            return Pass("empty_memory")
        ids = tuple(fact.id for fact in found)
        return retriever.put_facts_in_front(Delegate(ids, (1.0,) * len(ids), "ike", found), request)

    return decide
