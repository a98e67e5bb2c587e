"""What the log holds: events, in the order in which they were recorded."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Entry:
    """What somebody wants recorded: ``subject``, something of that ``kind``, entered ``status``.

    ``detail`` holds JSON values. The log knows no kinds: who folds events knows theirs.
    """

    kind: str
    subject: str
    status: str
    detail: Mapping[str, Any]


@dataclass(frozen=True)
class Event:
    """An entry as it was recorded, at a revision and a time in seconds since the epoch."""

    revision: int
    kind: str
    subject: str
    status: str
    detail: Mapping[str, Any]
    at: float
