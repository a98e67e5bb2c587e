"""The hash chain over the log: each event's hash covers it and the hash of the event before.

It covers the digest of a detail instead of the detail, so that erasing texts leaves it as it is.
"""

import hashlib
import json
from dataclasses import astuple

from vllm_edit.ledger.event import Event

ERASED = "erased"
"""In a detail without its texts: the digest of what it was."""


def digest(detail: str) -> str:
    """The digest of a detail as it is stored."""
    return hashlib.sha256(detail.encode()).hexdigest()


def chained(previous: str, event: Event) -> str:
    """The hash of an event behind the one with the hash ``previous``."""
    values = (
        previous,
        event.revision,
        event.kind,
        event.subject,
        event.status,
        event.digest,
        event.at,
        None if event.actor is None else astuple(event.actor),
    )
    return hashlib.sha256(json.dumps(values).encode()).hexdigest()


def continues(previous: str, event: Event) -> bool:
    """Whether the event is as it was recorded, behind the one with the hash ``previous``."""
    return not event.hash or event.hash == chained(previous, event)
