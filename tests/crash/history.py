"""What a client of a server that gets killed knows for certain, and what follows from it."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from tests.crash.operations import ActivateSet, CreateSet, Delete, DeleteSet, Operation, Post

Told = dict[str, Any]
"""An edit or an edit set as the server tells of it."""

ENDED = ("failed", "rolled_back")
ALIVE = ("active", "superseded")
UNFINISHED = ("proposed", "computing", "applying")
GONE = "gone"
"""In place of a status: failed before its set was deleted, or rolled back with it."""

REQUEST = ("method", "prompt", "subject", "target_new", "edit_set")

OWN_FAULTS = ("target_not_reached", "governor_refused", "not_told", "store_error")
"""Codes of failures that an edit may have on any server, or where a write is refused; a kill is no
reason to fail."""


@dataclass
class History:
    """Edits by id and sets by name as last acknowledged, and what got no answer, if anything."""

    edits: dict[str, Told] = field(default_factory=dict)
    sets: dict[str, Told] = field(default_factory=dict)
    pending: Operation | None = None

    def acknowledge(self, answer: Mapping[str, Any]) -> None:
        """What was pending was done, with this answer."""
        match self.pending:
            case Post():
                told = answer["data"]
                assert all(e["status"] != "failed" or _failed_by_itself(e) for e in told), told
                self.edits |= {edit["id"]: edit for edit in told}
            case Delete(edit_id):
                self.edits[edit_id] = dict(answer)
            case CreateSet(name) | ActivateSet(name):
                self.sets[name] = dict(answer)
            case DeleteSet(name):
                del self.sets[name]
                for edit in self.alive():
                    if edit["edit_set"] == name:
                        known = edit["status"] in ALIVE
                        self.edits[edit["id"]] = edit | {"status": "rolled_back" if known else GONE}
        self.pending = None

    def refuse(self) -> None:
        """What was pending was not done."""
        self.pending = None

    def alive(self) -> list[Told]:
        """Edits that, as far as is known, can be taken back."""
        return [edit for edit in self.edits.values() if edit["status"] not in (*ENDED, GONE)]

    def compare(self, edits: Sequence[Told], sets: Sequence[Told]) -> None:
        """Check what a server has that was started again, oldest first, and go on from there.

        What was answered holds. What was not may hold or not, but wholly.
        """
        now, sets_now = {e["id"]: e for e in edits}, {s["name"]: s for s in sets}
        assert not self.edits.keys() - now.keys(), "acknowledged edits are lost"
        self._compare_sets(sets_now)
        self._compare_new([edit for edit in edits if edit["id"] not in self.edits])
        for before in self.edits.values():
            self._compare_known(before, now[before["id"]], sets_now)
        for edit in edits:
            assert edit["status"] in (*ALIVE, *ENDED), f"unfinished: {edit}"
            assert edit["status"] in ENDED or edit["edit_set"] in (None, *sets_now), edit
        require_succession(edits)
        self.edits, self.sets, self.pending = now, sets_now, None

    def _compare_sets(self, now: Mapping[str, Told]) -> None:
        for name in self.sets.keys() | now.keys():
            if name not in now:
                assert self.pending == DeleteSet(name), f"{name} is lost"
            elif name not in self.sets:
                assert self.pending == CreateSet(name), f"nobody has made {name}"
            elif now[name]["active"] != self.sets[name]["active"]:
                assert self.pending == ActivateSet(name, now[name]["active"]), now[name]

    def _compare_new(self, edits: Sequence[Told]) -> None:
        if not edits:
            return
        assert isinstance(self.pending, Post), f"nobody has asked for {edits}"
        assert _requests(edits) == _requests(self.pending.edits), "half of a list is there"
        for edit in edits:
            assert edit["status"] in ALIVE or _failed_by_itself(edit), edit

    def _compare_known(self, before: Told, now: Told, sets: Mapping[str, Told]) -> None:
        assert _requests([before]) == _requests([now]), (before, now)
        assert before["batch"] == now["batch"], (before, now)
        if before["status"] == GONE:
            assert now["status"] in ENDED, now
        elif before["status"] in ENDED:
            assert now["status"] == before["status"], (before, now)
        elif now["status"] == "rolled_back":
            with_its_set = now["edit_set"] is not None and now["edit_set"] not in sets
            assert with_its_set or self.pending == Delete(now["id"]), f"nobody asked: {now}"
        elif now["status"] == "failed":
            assert before["status"] in UNFINISHED, (before, now)
            assert _failed_by_itself(now), now


def require_succession(edits: Iterable[Told]) -> None:
    """Of the living edits of each fact the last is in effect, and supersedes those before it."""
    facts: dict[Any, list[Told]] = defaultdict(list)
    for edit in edits:
        if edit["status"] not in ENDED:
            facts[edit["edit_set"], edit["method"] == "ike", edit["prompt"]].append(edit)
    for living in facts.values():
        assert (living[-1]["status"], living[-1]["superseded_by"]) == ("active", None), living
        for earlier, later in pairwise(living):
            assert earlier["status"] == "superseded", living
            assert earlier["superseded_by"] == later["id"], living


def _failed_by_itself(edit: Told) -> bool:
    return edit["status"] == "failed" and edit["error"]["code"] in OWN_FAULTS


def _requests(edits: Iterable[Mapping[str, Any]]) -> list[str]:
    return sorted(repr([edit.get(name) for name in REQUEST]) for edit in edits)
