"""The events of the log."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from vllm_edit.domain.actor import Actor


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
    """An entry as it was recorded, at a revision and a time in seconds since the epoch.

    ``actor`` sent the request that it came of; None where the server acted by itself. ``digest``
    is that of the detail as it was recorded, ``erased`` that of the one in its place if its texts
    were erased. ``hash`` is the event's in the chain; versions without a chain left it empty.
    """

    revision: int
    kind: str
    subject: str
    status: str
    detail: Mapping[str, Any]
    at: float
    actor: Actor | None = None
    digest: str = ""
    erased: str = ""
    hash: str = ""
