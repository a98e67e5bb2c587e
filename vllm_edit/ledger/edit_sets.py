"""Events about edit sets and the split of traffic, and what is folded from them."""

from dataclasses import asdict
from typing import Any

from vllm_edit.domain.edit_set import EditSet
from vllm_edit.domain.errors import unknown_edit_set
from vllm_edit.domain.json_values import from_json
from vllm_edit.domain.traffic_split import TrafficSplit
from vllm_edit.ledger.event import Entry, Event

EDIT_SET = "edit_set"
"""The kind of events that are about an edit set."""

SPLIT = "split"
"""The kind of events that are about the split of default traffic."""

_STORED_FIELDS = ("owner", "active", "frozen")
_PRESENT = "present"
_DELETED = "deleted"


class EditSets:
    """The edit sets that exist, and the split."""

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
        """Apply an event; raises KeyError, ValueError or EditError if it makes no sense."""
        if event.kind == SPLIT:
            present = event.status == _PRESENT
            self.split = from_json(TrafficSplit, event.detail) if present else None
        elif event.status == _DELETED:
            del self._sets[event.subject]
        else:
            before = self._sets.get(event.subject)
            fields = {
                "name": event.subject,
                "revision": event.revision,
                "created_at": before.created_at if before else event.at,
                "updated_at": event.at,
            }
            self._sets[event.subject] = from_json(EditSet, {**event.detail, **fields})


def set_entry(edit_set: EditSet, deleted: bool = False) -> Entry:
    """A set is now as given, or is deleted."""
    if deleted:
        return Entry(EDIT_SET, edit_set.name, _DELETED, {})
    detail: dict[str, Any] = {name: getattr(edit_set, name) for name in _STORED_FIELDS}
    if edit_set.probes is not None:
        detail["probes"] = edit_set.probes.as_json()
    return Entry(EDIT_SET, edit_set.name, _PRESENT, detail)


def split_entry(split: TrafficSplit | None) -> Entry:
    """Default traffic is split in this way now, or not at all."""
    if split is None:
        return Entry(SPLIT, "default", _DELETED, {})
    return Entry(SPLIT, "default", _PRESENT, asdict(split))
