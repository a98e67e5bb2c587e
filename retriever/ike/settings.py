"""Settings of IKE."""

from dataclasses import dataclass
from typing import Literal

from retriever.errors import InvalidSettingsError

Choice = Literal["nearest", "fixed"]
Slot = Literal["user", "system"]


@dataclass(frozen=True, slots=True)
class IkeSettings:
    """Raises `InvalidSettingsError` for a value outside its range."""

    demonstrations: int = 4
    """Number of demonstrations in front of the facts, if the store has as many; 0 for none."""
    choice: Choice = "nearest"
    """nearest: those most similar to the best fact, the nearest last. fixed: the same ones in
    front of every request, so that an engine's prefix cache serves them."""
    slot: Slot = "user"
    """Where they stand in a chat: in front of the last user turn, or in the system message."""
    max_tokens: int = 1024
    """Maximum number of tokens in front of a request. Demonstrations are dropped first, then the
    facts with the lowest scores; the best fact always stays."""

    def __post_init__(self) -> None:
        if self.demonstrations < 0 or self.max_tokens < 1:
            raise InvalidSettingsError(
                "`demonstrations` must be at least 0 and `max_tokens` at least 1; got "
                f"{self.demonstrations} and {self.max_tokens}."
            )
        if self.choice not in ("nearest", "fixed") or self.slot not in ("user", "system"):
            raise InvalidSettingsError(
                "`choice` is nearest or fixed, `slot` is user or system; got "
                f"{self.choice!r} and {self.slot!r}."
            )
