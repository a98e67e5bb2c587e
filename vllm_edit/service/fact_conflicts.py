"""Default traffic sees the edits of at most one set, or of none, about each fact."""

from collections import Counter
from collections.abc import Callable, Hashable

from vllm_edit.domain.edit import ENDED, Edit, EditRequest
from vllm_edit.domain.edit_set import EditSet, require_thawed
from vllm_edit.domain.errors import ConflictingState
from vllm_edit.ledger import Ledger

SetName = str | None
"""The name of an edit set, or None for edits that are in none."""


class FactConflicts:
    """Refuses edits and sets that would contradict others in default traffic.

    Counts by fact and set the edits that have not ended: ``update`` must get every state that an
    edit enters. ``fact_of`` says what an edit is about.
    """

    def __init__(self, ledger: Ledger, fact_of: Callable[[EditRequest], Hashable]) -> None:
        self._ledger = ledger
        self._fact_of = fact_of
        self._counted: set[str] = set()
        self._edits_by_set: dict[Hashable, Counter[SetName]] = {}

    def update(self, edit: Edit) -> None:
        """Take in the present state of an edit."""
        counts = edit.status not in ENDED
        if counts == (edit.id in self._counted):
            return
        self._counted ^= {edit.id}
        fact = self._fact_of(edit.request)
        by_set = self._edits_by_set.setdefault(fact, Counter())
        by_set[edit.request.edit_set] += 1 if counts else -1
        if not by_set[edit.request.edit_set]:
            del by_set[edit.request.edit_set]
        if not by_set:
            del self._edits_by_set[fact]

    def require_allowed(self, request: EditRequest) -> None:
        """Raise an error if the edit cannot be made.

        Raises:
            UnknownEditSet: its set does not exist.
            ConflictingState: its set is frozen, or default traffic would see two edits of a fact.
        """
        if request.edit_set is not None:
            edit_set = self._ledger.edit_set(request.edit_set)
            require_thawed(edit_set)
            if not edit_set.active:
                return
        self._require_only(self._fact_of(request), request.edit_set)

    def require_no_conflict(self, edit_set: EditSet) -> None:
        """Raise ConflictingState if default traffic sees other edits of the set's facts."""
        for fact, by_set in self._edits_by_set.items():
            if edit_set.name in by_set:
                self._require_only(fact, edit_set.name)

    def _require_only(self, fact: Hashable, name: SetName) -> None:
        visible: set[SetName] = {None, *(s.name for s in self._ledger.edit_sets() if s.active)}
        if others := visible.intersection(self._edits_by_set.get(fact, ())) - {name}:
            names = ", ".join(f"the active set {o!r}" if o else "no set" for o in others)
            raise ConflictingState(
                f"An edit in {names} is about the same fact, and default traffic can see one of "
                "them only: take that one back, or keep this set inactive.",
                code="conflicting_edits",
            )
