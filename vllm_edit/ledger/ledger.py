"""Edits as they are now, folded from the log."""

import threading
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Self

from vllm_edit.domain.edit import Edit, EditRequest, Failure, Proposal, Status, Step
from vllm_edit.domain.edit_set import EditSet
from vllm_edit.domain.errors import InvalidSplit, StoreError, StoreLocked, unknown_edit
from vllm_edit.domain.probe import Probes, Score, scores_to_json
from vllm_edit.domain.traffic_split import TrafficSplit
from vllm_edit.ledger.event import Entry, Event
from vllm_edit.ledger.leadership import Leadership
from vllm_edit.ledger.location import database_of
from vllm_edit.ledger.log import Log
from vllm_edit.ledger.sets import EDIT_SET, SPLIT, Sets, ended, set_entry, split_entry
from vllm_edit.ledger.sqlite import SqliteDatabase
from vllm_edit.store import Store

EDIT = "edit"
"""The kind of events that are about an edit."""


class Ledger:
    """The log in an SQLite file, or any log, and the edits that it tells of. Thread-safe.

    What others append is seen by ``catch_up``, and before what is appended here.

    Raises:
        StoreLocked: a server of an older version has the file for itself.
        StoreError: this is no ledger, or was written by a newer version, or cannot be reached.
    """

    def __init__(self, log: Path | Log) -> None:
        self.log = log if isinstance(log, Log) else Log(SqliteDatabase(log))
        self.leadership = Leadership(self.log)
        self._leads = False
        self._syncing = threading.Lock()
        self._lock = threading.Lock()
        self._edits: dict[str, Edit] = {}
        self._sets = Sets()
        self._revision = 0
        self._unseen: list[Event] = []
        try:
            for event in self.log.read():
                self._fold(event)
        except StoreError:
            self.close()
            raise

    @classmethod
    def open(cls, store: str) -> Self:
        """The ledger of a store as a user names it: a folder or a PostgreSQL URL."""
        return cls(Log(database_of(Store(store))))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def revision(self) -> int:
        """The number of the latest event that is known here; 0 for an empty ledger."""
        return self._revision

    def edits(self) -> list[Edit]:
        """All edits ever proposed, in the order they were proposed."""
        with self._lock:
            return list(self._edits.values())

    def get(self, edit_id: str) -> Edit:
        """The edit with that id; raises UnknownEdit."""
        edit = self._edits.get(edit_id)
        if edit is None:
            raise unknown_edit(edit_id)
        return edit

    @property
    def split(self) -> TrafficSplit | None:
        """How default traffic is split over variants, if it is."""
        return self._sets.split

    def edit_sets(self) -> list[EditSet]:
        """The edit sets that there are, oldest first."""
        with self._lock:
            return self._sets.all()

    def edit_set(self, name: str) -> EditSet:
        """The edit set with that name; raises UnknownEditSet."""
        return self._sets.get(name)

    def has_edit_set(self, name: str) -> bool:
        return self._sets.has(name)

    def leader(self) -> str:
        """The address of the process that began to lead last; raises StoreError."""
        return self.log.leader()

    def try_to_lead(self, address: str) -> bool:
        """As `lead`, if no process leads, and tell others the address; whether this one leads."""
        self.leadership.address = address
        if not self.leadership.lead():
            return False
        self._leads = True
        self.catch_up()
        return True

    def lead(self) -> None:
        """Become the one that changes edits, knowing all that was recorded before.

        From then on appends are refused should another process lead. Raises StoreLocked if one
        does now.
        """
        self.leadership.require()
        self._leads = True
        self.catch_up()

    def propose(self, proposals: Sequence[Proposal]) -> list[Edit]:
        """Record new edits under fresh ids, all or none."""
        self._append([Entry(EDIT, p.id, Status.PROPOSED.value, _proposal(p)) for p in proposals])
        return [self.get(proposal.id) for proposal in proposals]

    def advance(
        self, edit_ids: Sequence[str], status: Status, failure: Failure | None = None
    ) -> list[Edit]:
        """Record that edits entered ``status``, all or none; returns them as they are now."""
        return self.record([Step(edit_id, status, failure) for edit_id in edit_ids])

    def record(self, steps: Sequence[Step]) -> list[Edit]:
        """Record several edits' steps in this order, all or none; returns them as they are now."""
        for step in steps:
            self.get(step.edit_id)
        self._append([Entry(EDIT, s.edit_id, s.status.value, _explanation(s)) for s in steps])
        return [self.get(step.edit_id) for step in steps]

    def record_set(
        self, edit_set: EditSet, steps: Sequence[Step] = (), deleted: bool = False
    ) -> EditSet:
        """Record steps of edits, and that a set is now as given or is no more, all or none.

        Returns the set as it is now, or as it ended.
        """
        entries = [Entry(EDIT, s.edit_id, s.status.value, _explanation(s)) for s in steps]
        self._append([*entries, set_entry(edit_set, deleted)])
        return ended(edit_set, self._revision) if deleted else self.edit_set(edit_set.name)

    def record_split(self, split: TrafficSplit | None) -> None:
        """Record how default traffic is split from now on, if it is."""
        self._append([split_entry(split)])

    def catch_up(self) -> list[Event]:
        """Fold what others appended; returns it as far as no earlier call has."""
        with self._syncing:
            self._fold_others(self.log.read(self._revision))
            unseen, self._unseen = self._unseen, []
        return unseen

    def close(self) -> None:
        self.leadership.release()
        self.log.close()

    def _append(self, entries: Sequence[Entry]) -> None:
        with self._syncing:
            if self._leads:
                self._keep_lead()
            events = self.log.append(entries, self.leadership.term)
            if events and events[0].revision != self._revision + 1:
                between = self.log.read(self._revision)
                self._fold_others(e for e in between if e.revision < events[0].revision)
            for event in events:
                self._fold(event)

    def _fold_others(self, events: Iterable[Event]) -> None:
        for event in events:
            self._fold(event)
            self._unseen.append(event)

    def _keep_lead(self) -> None:
        """Take the lead again if it was lost and nobody has used it."""
        term = self.leadership.term
        self.leadership.require()
        if self.leadership.term != term and self.log.latest() != self._revision:
            self.leadership.release()
            raise StoreLocked(
                f"Another server has changed the edit store {self.log.database.name} while this "
                "one had lost it; nothing was recorded. Restart this one."
            )

    def _fold(self, event: Event) -> None:
        try:
            with self._lock:
                if event.kind == EDIT:
                    edit = _folded(self._edits.get(event.subject), event)
                    self._edits[edit.id] = edit
                elif event.kind in (EDIT_SET, SPLIT):
                    self._sets.fold(event)
        except (KeyError, TypeError, ValueError, InvalidSplit) as error:
            raise StoreError(
                f"Revision {event.revision} of the edit store {self.log.database.name} cannot "
                f"be understood ({error!r}). Restore the store from a backup."
            ) from error
        self._revision = event.revision


def _folded(edit: Edit | None, event: Event) -> Edit:
    detail = event.detail
    if "request" in detail:
        return Edit(
            id=event.subject,
            request=_request(**detail["request"]),
            status=Status(event.status),
            proposed=event.revision,
            revision=event.revision,
            created_at=event.at,
            updated_at=event.at,
            batch=detail.get("batch"),
        )
    if edit is None:
        raise KeyError(event.subject)
    return replace(
        edit,
        status=Status(event.status),
        revision=event.revision,
        updated_at=event.at,
        failure=Failure(**detail["failure"]) if "failure" in detail else None,
        superseded_by=detail.get("superseded_by"),
        scores=tuple(Score(**s) for s in detail["scores"]) if "scores" in detail else edit.scores,
    )


def _proposal(proposal: Proposal) -> dict[str, Any]:
    request = asdict(proposal.request)
    if proposal.request.probes is None:
        del request["probes"]
    detail: dict[str, Any] = {"request": request}
    return detail | {"batch": proposal.batch} if proposal.batch else detail


def _explanation(step: Step) -> dict[str, Any]:
    detail: dict[str, Any] = {"failure": asdict(step.failure)} if step.failure else {}
    if step.scores:
        detail["scores"] = scores_to_json(step.scores)
    return detail | {"superseded_by": step.superseded_by} if step.superseded_by else detail


def _request(
    aliases: Sequence[str] = (), probes: Mapping[str, Any] | None = None, **fields: Any
) -> EditRequest:
    """From JSON, which has lists only; logs from before there were aliases have none."""
    asked = None if probes is None else Probes.from_json(**probes)
    return EditRequest(**fields, aliases=tuple(aliases), probes=asked)
