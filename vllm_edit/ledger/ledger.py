"""Edits as they are now, folded from the log."""

import threading
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Self

from vllm_edit.domain.edit import ENDED, Edit, Proposal, Status, Step
from vllm_edit.domain.edit_set import EditSet
from vllm_edit.domain.errors import InvalidSplit, StoreError, StoreLocked, unknown_edit
from vllm_edit.domain.traffic_split import TrafficSplit
from vllm_edit.domain.variant import DEFAULT
from vllm_edit.ledger import metrics
from vllm_edit.ledger.chain import continues
from vllm_edit.ledger.edit_events import (
    EDIT,
    erased_edit,
    fold_edit,
    proposal_entry,
    step_entry,
    without_texts,
)
from vllm_edit.ledger.edit_sets import EDIT_SET, SPLIT, EditSets, set_entry, split_entry
from vllm_edit.ledger.event import Entry, Event
from vllm_edit.ledger.leadership import Leadership
from vllm_edit.ledger.log import ERASURE, Log
from vllm_edit.ledger.sqlite import SqliteDatabase
from vllm_edit.ledger.store_database import database_of
from vllm_edit.store import Store


class Ledger:
    """A log, and the edits and sets folded from it. Thread-safe.

    ``log`` may be the path of an SQLite file. ``catch_up`` reads what other processes appended;
    an append reads it first. Both raise StoreReplaced if the log no longer holds what was read
    from it before.

    Raises:
        StoreLocked: a server of an older version has the file open.
        StoreError: this is no ledger, a newer version wrote it, or it cannot be reached.
    """

    def __init__(self, log: Path | Log) -> None:
        self.log = log if isinstance(log, Log) else Log(SqliteDatabase(log))
        self.leadership = Leadership(self.log)
        self._leads = False
        self._stepped_down = False
        self._tip: Event | None = None
        self._syncing = threading.Lock()
        self._lock = threading.Lock()
        self._edits: dict[str, Edit] = {}
        self._sets = EditSets()
        self._revision = 0
        self._hash = ""
        self._erased: dict[str, str] = {}
        self._statuses: Counter[Status] = Counter()
        self._unended: Counter[str | None] = Counter()
        self._unseen: list[Event] = []
        try:
            for event in self.log.read():
                self._fold(event)
            if self._erased:
                raise self._damaged(f"revision {next(iter(self._erased))} was changed by hand")
            metrics.show(self._statuses, self._revision)
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
        """The number of the latest event read or appended here; 0 for an empty ledger."""
        return self._revision

    def edits(self) -> list[Edit]:
        """All edits ever proposed, in the order they were proposed."""
        with self._lock:
            return list(self._edits.values())

    def not_ended(self) -> list[Edit]:
        """Those of the edits that are in effect or on their way."""
        return [edit for edit in self.edits() if edit.status not in ENDED]

    def get(self, edit_id: str) -> Edit:
        """The edit with that id; raises UnknownEdit."""
        edit = self._edits.get(edit_id)
        if edit is None:
            raise unknown_edit(edit_id)
        return edit

    @property
    def split(self) -> TrafficSplit | None:
        """How default traffic is split over variants, or None."""
        return self._sets.split

    def edit_sets(self) -> list[EditSet]:
        """The edit sets that exist, oldest first."""
        with self._lock:
            return self._sets.all()

    def edit_set(self, name: str) -> EditSet:
        """The edit set with that name; raises UnknownEditSet."""
        return self._sets.get(name)

    def variants_of(self, edit: Edit) -> tuple[str, ...]:
        """The variants in which an edit takes effect."""
        name = edit.request.edit_set
        return (DEFAULT,) if name is None else self.edit_set(name).variants

    def unended_in(self, name: str) -> int:
        """How many edits of a set are in effect, superseded, or on their way."""
        return self._unended[name]

    def has_edit_set(self, name: str) -> bool:
        return self._sets.has(name)

    def leader(self) -> str:
        """The address of the latest leader, which may have ended; raises StoreError."""
        return self.log.leader()

    def try_to_lead(self, address: str) -> bool:
        """Become the process that changes edits, unless another one is; returns whether it is.

        ``address`` is where other processes reach this one. When this returns True, every earlier
        event is folded, and an append fails once another process leads. Raises StoreError.
        """
        self.leadership.address = address
        if not self.leadership.lead():
            return False
        self._leads, self._stepped_down = True, False
        self.catch_up()
        return True

    def still_leads(self) -> bool:
        """Whether nobody else has led since this process began to lead.

        Raises StoreReplaced as `catch_up` does, and StoreError.
        """
        with self._syncing:
            self._require_same_log()
        leadership = self.leadership
        return self._leads and leadership.held() and self.log.term() == leadership.term

    def step_down(self) -> None:
        """Lead no more; what is still to be appended is refused from now on with StoreLocked."""
        with self._syncing:
            self._leads, self._stepped_down = False, True
            self.leadership.release()

    def propose(self, proposals: Sequence[Proposal]) -> list[Edit]:
        """Record new edits under fresh ids, all or none."""
        self._append([proposal_entry(proposal) for proposal in proposals])
        return [self.get(proposal.id) for proposal in proposals]

    def record(self, steps: Sequence[Step]) -> list[Edit]:
        """Record steps of edits in this order, all or none; returns the edits after them."""
        for step in steps:
            self.get(step.edit_id)
        self._append([step_entry(step) for step in steps])
        return [self.get(step.edit_id) for step in steps]

    def record_set(
        self, edit_set: EditSet, steps: Sequence[Step] = (), deleted: bool = False
    ) -> EditSet:
        """Record steps of edits, and a set as given or its deletion, all or none.

        Returns the set after that; a deleted one as it was, but not active.
        """
        self._append([*map(step_entry, steps), set_entry(edit_set, deleted)])
        if deleted:
            return replace(edit_set, revision=self._revision, active=False)
        return self.edit_set(edit_set.name)

    def record_split(self, split: TrafficSplit | None) -> None:
        """Record how default traffic is split from now on; None for not at all."""
        self._append([split_entry(split)])

    def erase(self, edit_id: str) -> Edit:
        """Erase the texts of an edit, for good; returns the edit without them."""
        self.get(edit_id)
        with self._syncing:
            self._require_lead()
            term = self.leadership.term
            self._take_in(self.log.erase(EDIT, edit_id, without_texts, term, self._tip))
        return self.get(edit_id)

    def catch_up(self) -> list[Event]:
        """Fold what others appended; returns those of their events that no earlier call has."""
        with self._syncing:
            self._require_same_log()
            self._fold_others(self.log.read(self._revision))
            unseen, self._unseen = self._unseen, []
        return unseen

    def close(self) -> None:
        self.leadership.release()
        self.log.close()

    def _append(self, entries: Sequence[Entry]) -> None:
        with self._syncing:
            self._require_lead()
            self._take_in(self.log.append(entries, self.leadership.term, self._tip))

    def _require_lead(self) -> None:
        """Raise StoreLocked if nothing may be appended here."""
        if self._stepped_down:
            raise StoreLocked(
                f"This server no longer leads the edit store {self.log.database.name}; nothing "
                "was recorded. It follows the one that does: try again."
            )
        if self._leads:
            self._keep_lead()

    def _take_in(self, events: Sequence[Event]) -> None:
        """Fold events appended here, and before them those that others have appended."""
        if events and events[0].revision != self._revision + 1:
            between = self.log.read(self._revision)
            self._fold_others(e for e in between if e.revision < events[0].revision)
        for event in events:
            self._fold(event)
        metrics.show(self._statuses, self._revision)

    def _require_same_log(self) -> None:
        if self._tip is not None:
            self.log.require(self._tip)

    def _fold_others(self, events: Iterable[Event]) -> None:
        for event in events:
            self._fold(event)
            self._unseen.append(event)
        metrics.show(self._statuses, self._revision)

    def _keep_lead(self) -> None:
        """Take a lost lead again; raises StoreLocked if another process has used it."""
        term = self.leadership.term
        self.leadership.require()
        if self.leadership.term != term and self.log.latest() != self._revision:
            self.leadership.release()
            raise StoreLocked(
                f"Another server has changed the edit store {self.log.database.name} while this "
                "one had lost it; nothing was recorded. This one catches up: try again."
            )

    def _fold(self, event: Event) -> None:
        if event.revision != self._revision + 1 or not continues(self._hash, event):
            raise self._damaged(
                f"revision {event.revision} does not follow what was read before: the store was "
                "changed by hand, or an older state of it was put in its place while a server ran"
            )
        try:
            with self._lock:
                self._fold_known(event)
        except (KeyError, TypeError, ValueError, InvalidSplit) as error:
            raise StoreError(
                f"Revision {event.revision} of the edit store {self.log.database.name} cannot "
                f"be understood ({error!r}). Restore the store from a backup."
            ) from error
        self._revision, self._hash, self._tip = event.revision, event.hash, event
        if event.erased:
            self._erased[str(event.revision)] = event.erased

    def _fold_known(self, event: Event) -> None:
        edit = self._edits.get(event.subject)
        if event.kind == EDIT:
            after = self._edits[event.subject] = fold_edit(edit, event)
            self._count(after, 1)
            if edit is not None:
                self._count(edit, -1)
        elif event.kind in (EDIT_SET, SPLIT):
            self._sets.fold(event)
        elif event.kind == ERASURE and edit is not None:
            self._edits[event.subject] = erased_edit(edit, event)
            for revision, left in event.detail["left"].items():
                if self._erased.pop(revision, left) != left:
                    raise ValueError(f"revision {revision} was changed by hand")

    def _count(self, edit: Edit, change: int) -> None:
        self._statuses[edit.status] += change
        if edit.status not in ENDED:
            self._unended[edit.request.edit_set] += change

    def _damaged(self, what: str) -> StoreError:
        return StoreError(
            f"The edit store {self.log.database.name} is damaged: {what}. Restore it from a "
            "backup while no server uses it, and start its servers again."
        )
