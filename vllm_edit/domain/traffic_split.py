"""The A/B rule: which share of the default traffic sees which variant."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

from vllm_edit.domain.errors import InvalidSplit

_HEADER = "header:"
_POINTS = 1 << 64


@dataclass(frozen=True)
class TrafficSplit:
    """Splits requests over variants by ``weights``, which are positive.

    Requests with the same key see the same variant. ``by`` says what the key is: ``user`` (the
    field of the request's body), ``header:NAME`` or ``client`` (the address).
    """

    weights: Mapping[str, float]
    by: str = "user"

    def __post_init__(self) -> None:
        if not self.weights or not all(0 < w < float("inf") for w in self.weights.values()):
            raise InvalidSplit(
                "weights must be a mapping of variants to positive numbers with one entry at "
                "least; delete the split to have none.",
                field="weights",
            )
        if self.by not in ("user", "client") and not self.header:
            raise InvalidSplit(
                f"A split cannot be by {self.by!r}; choose user, client or header:NAME.",
                field="by",
            )

    @property
    def header(self) -> str:
        """The lower-case name of the header that is the key; empty if none is."""
        name = self.by.removeprefix(_HEADER)
        return "" if name == self.by else name.strip().lower()

    def choose(self, key: str) -> str:
        """The variant of requests with this key; the same as long as the weights are."""
        digest = hashlib.sha256(key.encode("utf-8", "surrogatepass")).digest()
        point = int.from_bytes(digest[:8], "big") / _POINTS * sum(self.weights.values())
        *first, last = self.weights
        for variant in first:
            point -= self.weights[variant]
            if point < 0:
                return variant
        return last
