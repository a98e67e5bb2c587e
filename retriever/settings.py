"""Settings of the retriever."""

from dataclasses import dataclass, field

from retriever.errors import InvalidSettingsError
from retriever.fact import FactLimits
from retriever.ike.settings import IkeSettings
from retriever.mello.settings import MelloSettings

DEFAULT_THRESHOLD = 0.3
"""For the shipped classifier."""


@dataclass(frozen=True, slots=True)
class RetrieverSettings:
    """Raises `InvalidSettingsError` for a value outside its range."""

    threshold: float = DEFAULT_THRESHOLD
    """Minimum probability of a fact in scope, 0 to 1. See `retriever.scope`."""
    max_facts: int = 3
    """Maximum number of facts put in front of one request."""
    max_candidates: int = 8
    """Maximum number of facts that the classifier reads for one request."""
    nearest: int = 2
    """If a request names no fact: how many of the nearest facts are checked for a subject that it
    names in a similar spelling; 0 for none."""
    gate: bool = True
    """Check those only if the request has words of a subject's name. If false, every request calls
    the encoder."""
    max_turns: int = 4
    """At most this many user turns of a chat are read, the last ones."""
    ike: IkeSettings = field(default_factory=IkeSettings)
    mello: MelloSettings = field(default_factory=MelloSettings)
    limits: FactLimits = field(default_factory=FactLimits)

    def __post_init__(self) -> None:
        if not 0 <= self.threshold <= 1:
            raise InvalidSettingsError(
                f"`threshold` is a probability, 0 to 1; got {self.threshold}."
            )
        for name in ("max_facts", "max_candidates", "max_turns"):
            if getattr(self, name) < 1:
                raise InvalidSettingsError(f"`{name}` must be at least 1.")
        if self.nearest < 0:
            raise InvalidSettingsError(f"`nearest` must be at least 0; got {self.nearest}.")
