"""What an edit is, and the states it passes through."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from vllm_edit.domain.probe import Probes, Score


class Status(StrEnum):
    """The life of an edit; the ledger records every step."""

    PROPOSED = "proposed"
    COMPUTING = "computing"
    APPLYING = "applying"
    ACTIVE = "active"
    SUPERSEDED = "superseded"
    FAILED = "failed"
    ROLLED_BACK = "rolled_back"


UNFINISHED = frozenset({Status.PROPOSED, Status.COMPUTING, Status.APPLYING})

ENDED = frozenset({Status.FAILED, Status.ROLLED_BACK})
"""States that are never left: such an edit has no effect and will have none."""


@dataclass(frozen=True)
class EditRequest:
    """One change of knowledge as a client asks for it.

    ``prompt`` contains ``subject``; after the edit the model continues ``prompt`` with
    ``target_new``. ``ground_truth`` is what it said before, if the client knows. ``edit_set`` names
    the set that the edit belongs to, if it does to one. ``pause_mode`` says what happens to running
    requests when a weight edit comes or goes, where it is not to be as for the others. ``aliases``
    are other names of the subject, by which memory edits find it. ``user`` is the only one whose
    questions feedback is for. ``probes`` are asked before it is active, if there are any.
    """

    method: str
    prompt: str
    subject: str
    target_new: str
    ground_truth: str | None = None
    edit_set: str | None = None
    pause_mode: str | None = None
    aliases: tuple[str, ...] = ()
    user: str | None = None
    probes: Probes | None = None


@dataclass(frozen=True)
class Failure:
    """Why an edit failed: a stable code and a sentence a person can act on."""

    code: str
    message: str


@dataclass(frozen=True)
class Proposal:
    """A request under the id that it gets; edits with one ``batch`` take effect together."""

    id: str
    request: EditRequest
    batch: str | None = None


@dataclass(frozen=True)
class Step:
    """An edit's entry into a status, with what explains that status."""

    edit_id: str
    status: Status
    failure: Failure | None = None
    superseded_by: str | None = None
    scores: Sequence[Score] = ()


@dataclass(frozen=True)
class Edit:
    """A request with its identity and present state, as folded from the ledger.

    ``proposed`` is the ledger's revision of the proposal, which orders edits by age, and
    ``revision`` that of the latest change; ``created_at`` and ``updated_at`` are seconds since
    the epoch. ``failure`` is set while ``status`` is failed; ``superseded_by``, the id of a later
    edit of the same fact, while it is superseded. ``scores`` are those of its probes, once these
    were asked.
    """

    id: str
    request: EditRequest
    status: Status
    proposed: int
    revision: int
    created_at: float
    updated_at: float
    batch: str | None = None
    failure: Failure | None = None
    superseded_by: str | None = None
    scores: tuple[Score, ...] = ()

    @property
    def group(self) -> str:
        """The same for edits that take effect together: the batch, or the edit on its own."""
        return self.batch or self.id
