"""Settings of IKE."""

from dataclasses import dataclass, field
from typing import Literal

from retriever.errors import InvalidSettingsError
from retriever.ike.prompt_form import PromptForms, Slot

Choice = Literal["nearest", "fixed"]
Order = Literal["demonstrations", "facts"]


@dataclass(frozen=True, slots=True)
class IkeSettings:
    """Raises `InvalidSettingsError` for a value outside its range."""

    forms: PromptForms = field(default_factory=PromptForms)
    demonstrations: int | None = None
    """Number of demonstrations, if the store has as many; None for the number of the form."""
    choice: Choice = "nearest"
    """nearest: those most similar to the best fact, the nearest last. fixed: the same ones in
    front of every request, so that an engine's prefix cache serves them."""
    order: Order = "demonstrations"
    """What comes first: the demonstrations, which a prefix cache can then serve, or the facts."""
    slot: Slot | None = None
    """Where they stand in a chat: in front of the last user turn, or in the system message; None
    for what the form says."""
    max_tokens: int = 1024
    """Maximum number of tokens in front of a request. Demonstrations are dropped first, then the
    facts with the lowest scores, then restatements; the best fact stays, if it fits beside the
    request. `Retriever.check` refuses a fact that takes more by itself."""

    def __post_init__(self) -> None:
        if (self.demonstrations or 0) < 0 or self.max_tokens < 1:
            raise InvalidSettingsError(
                "`demonstrations` must be at least 0 and `max_tokens` at least 1; got "
                f"{self.demonstrations} and {self.max_tokens}."
            )
        if self.choice not in ("nearest", "fixed") or self.slot not in ("user", "system", None):
            raise InvalidSettingsError(
                "`choice` is nearest or fixed, `slot` is user or system; got "
                f"{self.choice!r} and {self.slot!r}."
            )
        if self.order not in ("demonstrations", "facts"):
            raise InvalidSettingsError(f"`order` is demonstrations or facts; got {self.order!r}.")
