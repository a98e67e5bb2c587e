"""IKE: puts facts and demonstrations in front of a request (Zheng et al. 2023)."""

from collections.abc import Callable, Sequence

from retriever.decision import Messages
from retriever.fact import Fact
from retriever.ike.demonstrations import Demonstration, DemonstrationStore
from retriever.ike.prompt import preamble, prefix_message, shown_facts
from retriever.ike.settings import IkeSettings

CountTokens = Callable[[str], int]


def guess_tokens(text: str) -> int:
    """Estimate a text's tokens without a tokenizer: one per four characters."""
    return -(-len(text) // 4)


class Ike:
    """Puts facts in front of requests. Thread-safe."""

    def __init__(
        self,
        demonstrations: DemonstrationStore,
        settings: IkeSettings | None = None,
        count_tokens: CountTokens = guess_tokens,
    ) -> None:
        self._demonstrations = demonstrations
        self._settings = settings or IkeSettings()
        self._count = count_tokens

    def load(self) -> None:
        """Encode the demonstrations now, not at the first request."""
        if self._settings.choice == "nearest":
            self._demonstrations.load()

    def in_text(self, facts: Sequence[Fact], text: str) -> tuple[str, int]:
        """The text behind its facts, and how many of them fit. `facts` come best first."""
        prefix, kept = self._fitting(facts, in_system=False)
        return prefix + text, kept

    def in_chat(self, facts: Sequence[Fact], messages: Messages, turn: int) -> tuple[Messages, int]:
        """The same for a chat: in front of that turn's text or in the system message."""
        in_system = self._settings.slot == "system"
        prefix, kept = self._fitting(facts, in_system)
        if in_system:
            return _with_system(messages, prefix), kept
        changed = list(messages)
        changed[turn] = prefix_message(messages[turn], prefix)
        return tuple(changed), kept

    def _fitting(self, facts: Sequence[Fact], in_system: bool) -> tuple[str, int]:
        render = shown_facts if in_system else preamble
        chosen, kept = self._chosen(facts), list(facts)
        while True:
            prefix = render(chosen, kept[::-1])
            if self._count(prefix) <= self._settings.max_tokens:
                return prefix, len(kept)
            if chosen:
                # The nearest are last; of fixed ones a prefix cache holds the first.
                chosen = chosen[:-1] if self._settings.choice == "fixed" else chosen[1:]
            elif len(kept) > 1:
                kept.pop()
            else:
                return prefix, len(kept)

    def _chosen(self, facts: Sequence[Fact]) -> Sequence[Demonstration]:
        most = self._settings.demonstrations
        edited = [name for fact in facts for name in fact.names]
        if self._settings.choice == "fixed":
            return self._demonstrations.first(most, edited)
        return self._demonstrations.nearest(facts[0].prompt, most, edited)


def _with_system(messages: Messages, text: str) -> Messages:
    if messages[0].get("role") == "system":
        return (prefix_message(messages[0], f"{text}\n"), *messages[1:])
    return ({"role": "system", "content": text}, *messages)
