"""Settings of the retriever."""

from dataclasses import dataclass, field

from retriever.errors import InvalidSettingsError
from retriever.fact import FactLimits
from retriever.scope import DEFAULT_THRESHOLD


@dataclass(frozen=True, slots=True)
class RetrieverSettings:
    """Raises `InvalidSettingsError` for a value outside its range."""

    threshold: float = DEFAULT_THRESHOLD
    """Least cosine of a fact in scope, -1 to 1. See `retriever.scope`."""
    margin: float = 0.1
    """How far below the best fact's cosine another may lie and still be used."""
    max_facts: int = 3
    """Most facts put in front of one request."""
    max_windows: int = 4
    """Most sentences of a request that are compared, for each subject it names."""
    demonstrations: int = 4
    """Demonstrations in front of the facts, if the store has as many; 0 for none."""
    limits: FactLimits = field(default_factory=FactLimits)

    def __post_init__(self) -> None:
        if not -1 <= self.threshold <= 1:
            raise InvalidSettingsError(f"`threshold` is a cosine, -1 to 1; got {self.threshold}.")
        if self.margin < 0:
            raise InvalidSettingsError(f"`margin` must be at least 0; got {self.margin}.")
        if self.max_facts < 1 or self.max_windows < 1:
            raise InvalidSettingsError("`max_facts` and `max_windows` must be at least 1.")
        if self.demonstrations < 0:
            raise InvalidSettingsError(
                f"`demonstrations` must be at least 0; got {self.demonstrations}."
            )
