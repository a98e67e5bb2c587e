"""What an edit is, and the states it passes through."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from vllm_edit.domain.own_answers import OwnAnswers
from vllm_edit.domain.probe import Probes, Score


class Status(StrEnum):
    """The states of an edit; the ledger records every step but ``waiting``."""

    PROPOSED = "proposed"
    COMPUTING = "computing"
    APPLYING = "applying"
    ACTIVE = "active"
    SUPERSEDED = "superseded"
    FAILED = "failed"
    ROLLED_BACK = "rolled_back"
    WAITING = "waiting"
    """Active in the ledger, but this server cannot bring it into effect."""


UNFINISHED = frozenset({Status.PROPOSED, Status.COMPUTING, Status.APPLYING})

ENDED = frozenset({Status.FAILED, Status.ROLLED_BACK})
"""Final states: such an edit has no effect and never will."""


@dataclass(frozen=True)
class EditRequest:
    """One change of knowledge as a client asks for it.

    ``prompt`` contains ``subject``; after the edit the model continues ``prompt`` with
    ``target_new``. ``ground_truth`` is its answer before, if the client knows it. ``edit_set`` is
    the name of the edit's set, if it has one. ``pause_mode`` says what happens to running requests
    when a weight edit is swapped in or out; None means the server's setting. ``aliases`` are other
    names of the subject, by which memory edits find it. ``user`` limits feedback to the questions
    of one user. ``probes`` judge the edit before it is active. With ``keep`` the edit stays in
    effect even if the server, asked its prompt, does not answer with the target.
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
    keep: bool = False


@dataclass(frozen=True)
class Failure:
    """Why an edit failed: a stable code and a sentence a person can act on."""

    code: str
    message: str


@dataclass(frozen=True)
class Proposal:
    """A request with its new id; edits with the same ``batch`` take effect together."""

    id: str
    request: EditRequest
    batch: str | None = None


@dataclass(frozen=True)
class Step:
    """An edit enters a status; the other fields explain it."""

    edit_id: str
    status: Status
    failure: Failure | None = None
    superseded_by: str | None = None
    scores: Sequence[Score] = ()
    told: OwnAnswers | None = None


@dataclass(frozen=True)
class Edit:
    """A request with its id and present state, as folded from the ledger.

    ``proposed`` is the revision of the proposal, which orders edits by age; ``revision`` is that
    of the latest change. ``created_at`` and ``updated_at`` are seconds since the epoch.
    ``failure`` is set while ``status`` is failed or waiting. ``superseded_by`` is the id of a later
    edit of the same fact, while ``status`` is superseded. ``scores`` are set once its probes were
    asked, ``told`` once its own prompt was. ``erased`` says that its texts are gone; they are
    empty.
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
    told: OwnAnswers | None = None
    erased: bool = False

    def releasing(self, earlier: Sequence[str]) -> list[Step]:
        """What becomes of the edits that this one superseded, by id, when it ends.

        They come back, or the edit that superseded this one supersedes them.
        """
        if self.status is Status.ACTIVE:
            return [Step(edit_id, Status.ACTIVE) for edit_id in earlier]
        return [
            Step(edit_id, Status.SUPERSEDED, superseded_by=self.superseded_by)
            for edit_id in earlier
        ]

    @property
    def group(self) -> str:
        """The batch, or the id of an edit in none: equal for edits that take effect together."""
        return self.batch or self.id
