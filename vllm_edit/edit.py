"""What an edit is, and the states it passes through."""

from dataclasses import dataclass
from enum import StrEnum


class Status(StrEnum):
    """The life of an edit; the ledger records every step."""

    PROPOSED = "proposed"
    COMPUTING = "computing"
    APPLYING = "applying"
    ACTIVE = "active"
    FAILED = "failed"
    ROLLED_BACK = "rolled_back"


UNFINISHED = frozenset({Status.PROPOSED, Status.COMPUTING, Status.APPLYING})


@dataclass(frozen=True)
class EditRequest:
    """One change of knowledge as a client asks for it.

    ``prompt`` contains ``subject``; after the edit the model continues ``prompt`` with
    ``target_new``. ``ground_truth`` is what it said before, if the client knows.
    """

    method: str
    prompt: str
    subject: str
    target_new: str
    ground_truth: str | None = None


@dataclass(frozen=True)
class Failure:
    """Why an edit failed: a stable code and a sentence a person can act on."""

    code: str
    message: str


@dataclass(frozen=True)
class Edit:
    """A request with its identity and present state, as folded from the ledger.

    ``revision`` is the ledger's revision of the edit's latest change; ``created_at`` and
    ``updated_at`` are seconds since the epoch. ``failure`` is set while ``status`` is failed.
    """

    id: str
    request: EditRequest
    status: Status
    revision: int
    created_at: float
    updated_at: float
    failure: Failure | None = None
