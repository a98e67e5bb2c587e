"""Edit sets and the split of traffic, as the log tells of them."""

from dataclasses import asdict, replace
from typing import Any

from vllm_edit.domain.edit_set import EditSet
from vllm_edit.domain.errors import unknown_edit_set
from vllm_edit.domain.probe import Probes
from vllm_edit.domain.traffic_split import TrafficSplit
from vllm_edit.ledger.event import Entry, Event

EDIT_SET = "edit_set"
"""The kind of events that are about an edit set."""

SPLIT = "split"
"""The kind of events that are about the split of default traffic."""

_KEPT = ("owner", "active", "frozen")
_PRESENT = "present"
_DELETED = "deleted"


class Sets:
    """The edit sets that there are, and the split."""

    def __init__(self) -> None:
        self._sets: dict[str, EditSet] = {}
        self.split: TrafficSplit | None = None

    def all(self) -> list[EditSet]:
        """The sets, oldest first."""
        return list(self._sets.values())

    def has(self, name: str) -> bool:
        return name in self._sets

    def get(self, name: str) -> EditSet:
        """One set; raises UnknownEditSet."""
        if name not in self._sets:
            raise unknown_edit_set(name)
        return self._sets[name]

    def fold(self, event: Event) -> None:
        """Take in an event; raises KeyError, TypeError or EditError if it makes no sense."""
        if event.kind == SPLIT:
            self.split = TrafficSplit(**event.detail) if event.status == _PRESENT else None
        elif event.status == _DELETED:
            del self._sets[event.subject]
        else:
            made = self._sets.get(event.subject)
            detail = {**event.detail}
            if "probes" in detail:
                detail["probes"] = Probes.from_json(**detail["probes"])
            self._sets[event.subject] = EditSet(
                name=event.subject,
                revision=event.revision,
                created_at=made.created_at if made else event.at,
                updated_at=event.at,
                **detail,
            )


def set_entry(edit_set: EditSet, deleted: bool = False) -> Entry:
    """That a set is now as given, or is no more."""
    if deleted:
        return Entry(EDIT_SET, edit_set.name, _DELETED, {})
    detail: dict[str, Any] = {name: getattr(edit_set, name) for name in _KEPT}
    if edit_set.probes is not None:
        detail["probes"] = asdict(edit_set.probes)
    return Entry(EDIT_SET, edit_set.name, _PRESENT, detail)


def split_entry(split: TrafficSplit | None) -> Entry:
    """That default traffic is split now, or is no more."""
    if split is None:
        return Entry(SPLIT, "default", _DELETED, {})
    return Entry(SPLIT, "default", _PRESENT, asdict(split))


def ended(edit_set: EditSet, revision: int) -> EditSet:
    """The set as it was when it was deleted at that revision."""
    return replace(edit_set, revision=revision, active=False)
