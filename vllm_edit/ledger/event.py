"""The events of the log."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Entry:
    """An event to be recorded: ``subject``, a thing of that ``kind``, enters ``status``.

    ``detail`` holds JSON values. The log does not interpret it.
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
