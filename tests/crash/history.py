"""What a client of a server that gets killed knows for certain, and what follows from it."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

Told = dict[str, Any]
"""An edit as the server tells of it."""

ENDED = ("failed", "rolled_back")
ALIVE = ("active", "superseded")
UNFINISHED = ("proposed", "computing", "applying")
REQUEST = ("method", "prompt", "subject", "target_new")

OWN_FAULTS = ("target_not_reached", "governor_refused")
"""Codes of failures that an edit may have on any server; a kill is no reason to fail."""


@dataclass(frozen=True)
class Post:
    """Edits sent together."""

    edits: Sequence[Mapping[str, Any]]
    wait: bool


@dataclass(frozen=True)
class Delete:
    """An edit to be taken back."""

    edit_id: str


@dataclass
class History:
    """Edits as last acknowledged, by id, and the one operation that got no answer, if any."""

    told: dict[str, Told] = field(default_factory=dict)
    pending: Post | Delete | None = None

    def acknowledge(self, edits: Iterable[Told]) -> None:
        """The operation was answered, with these edits."""
        edits = list(edits)
        assert all(e["status"] != "failed" or _failed_by_itself(e) for e in edits), edits
        self.told |= {edit["id"]: edit for edit in edits}
        self.pending = None

    def alive(self) -> list[Told]:
        """Edits that, as far as is known, can be taken back."""
        return [edit for edit in self.told.values() if edit["status"] not in ENDED]

    def compare(self, edits: Sequence[Told]) -> None:
        """Check all edits of a server that has just started, oldest first, and go on from them.

        What was answered holds. What was not may hold or not, but wholly.
        """
        now = {edit["id"]: edit for edit in edits}
        assert not self.told.keys() - now.keys(), "acknowledged edits are lost"
        self._compare_new([edit for edit in edits if edit["id"] not in self.told])
        for before in self.told.values():
            self._compare_known(before, now[before["id"]])
        for edit in edits:
            assert edit["status"] in (*ALIVE, *ENDED), f"unfinished after a start: {edit}"
        require_succession(edits)
        self.told, self.pending = now, None

    def _compare_new(self, edits: Sequence[Told]) -> None:
        if not edits:
            return
        assert isinstance(self.pending, Post), f"nobody has asked for {edits}"
        assert _requests(edits) == _requests(self.pending.edits), "half of a list is there"
        for edit in edits:
            assert edit["status"] in ALIVE or _failed_by_itself(edit), edit

    def _compare_known(self, before: Told, now: Told) -> None:
        assert _requests([before]) == _requests([now])
        assert before["batch"] == now["batch"]
        if before["status"] in ENDED:
            assert now["status"] == before["status"], (before, now)
        elif now["status"] == "rolled_back":
            assert self.pending == Delete(now["id"]), f"nobody has taken this back: {now}"
        elif now["status"] == "failed":
            assert before["status"] in UNFINISHED, (before, now)
            assert _failed_by_itself(now), now


def require_succession(edits: Iterable[Told]) -> None:
    """Of the living edits of each fact the last is in effect, and supersedes those before it."""
    facts: dict[Any, list[Told]] = defaultdict(list)
    for edit in edits:
        if edit["status"] not in ENDED:
            facts[edit.get("edit_set"), edit["method"] == "ike", edit["prompt"]].append(edit)
    for living in facts.values():
        assert (living[-1]["status"], living[-1]["superseded_by"]) == ("active", None), living
        for earlier, later in pairwise(living):
            assert earlier["status"] == "superseded", living
            assert earlier["superseded_by"] == later["id"], living


def _failed_by_itself(edit: Told) -> bool:
    return edit["status"] == "failed" and edit["error"]["code"] in OWN_FAULTS


def _requests(edits: Iterable[Mapping[str, Any]]) -> list[tuple[Any, ...]]:
    return sorted(tuple(edit[name] for name in REQUEST) for edit in edits)
