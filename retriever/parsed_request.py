"""A request, parsed once for all decisions about it."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property

from retriever.decision import Messages
from retriever.ike.prompt import text_of, user_turns
from retriever.scope.classifier_input import parse_turn
from retriever.scope.scope_decision import Needs, ScopeDecision
from retriever.settings import RetrieverSettings


@dataclass(frozen=True, slots=True)
class ContextShare:
    """The tokens that a request, what is put in front of it, and its answer may have."""

    tokens: int
    """All of them together."""
    answer: int
    """Tokens that the answer is to have, as far as they fit behind the request alone."""
    otherwise: int
    """Tokens left for it if they do not."""
    prompt: int | None = None
    """Tokens that may stand before the answer; None for any number."""

    def left(self, request: int) -> int:
        """What a request of so many tokens leaves to what is put in front of it."""
        left = self.tokens - request
        left -= self.answer if self.answer <= left else self.otherwise
        return left if self.prompt is None else min(left, self.prompt - request)


@dataclass
class ParsedRequest:
    """A text or a chat, and the results about it so far."""

    content: str | Messages
    settings: RetrieverSettings
    context: ContextShare | None = None
    """What it and its answer may take; None for no limit."""
    needs: Needs = field(default_factory=Needs)
    """What the models must compute next."""

    @cached_property
    def texts(self) -> list[str]:
        """The text, or those of the last user turns, oldest first."""
        if isinstance(self.content, str):
            return [self.content]
        turns = user_turns(self.content)[-self.settings.max_turns :]
        return [text_of(self.content[turn]) for turn in turns]

    def room(self, count: Callable[[str], int], enough: int) -> int | None:
        """The tokens that can be put in front; None if there are `enough` in any case."""
        if self.context is None:
            return None
        texts = [self.content] if isinstance(self.content, str) else map(text_of, self.content)
        whole = "\n".join(texts)
        # A token has at least one byte: so most requests need not be counted.
        if self.context.left(len(whole.encode("utf-8", "surrogatepass"))) >= enough:
            return None
        return max(0, self.context.left(count(whole)))

    def longer_than(self, size: int) -> bool:
        """Whether the texts have more bytes than that in UTF-8."""
        if sum(map(len, self.texts)) > size:
            return True
        return sum(len(text.encode("utf-8", "surrogatepass")) for text in self.texts) > size

    @property
    def question(self) -> str:
        """The last text; empty if there is none."""
        return self.texts[-1] if self.texts else ""

    @cached_property
    def scope(self) -> ScopeDecision:
        """The decision about scope, with the results of the models so far."""
        return ScopeDecision(tuple(map(parse_turn, self.texts)), self.settings)
