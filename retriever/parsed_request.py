"""A request, parsed once for all decisions about it."""

from dataclasses import dataclass, field
from functools import cached_property

from retriever.decision import Messages
from retriever.ike.prompt import text_of, user_turns
from retriever.scope.classifier_input import parse_turn
from retriever.scope.scope_decision import Needs, ScopeDecision
from retriever.settings import RetrieverSettings


@dataclass
class ParsedRequest:
    """A text or a chat, and the results about it so far."""

    content: str | Messages
    settings: RetrieverSettings
    needs: Needs = field(default_factory=Needs)
    """What the models must compute next."""

    @cached_property
    def texts(self) -> list[str]:
        """The text, or those of the last user turns, oldest first."""
        if isinstance(self.content, str):
            return [self.content]
        turns = user_turns(self.content)[-self.settings.max_turns :]
        return [text_of(self.content[turn]) for turn in turns]

    @property
    def question(self) -> str:
        """The last text; empty if there is none."""
        return self.texts[-1] if self.texts else ""

    @cached_property
    def scope(self) -> ScopeDecision:
        """The decision about scope, with the results of the models so far."""
        return ScopeDecision(tuple(map(parse_turn, self.texts)), self.settings)
