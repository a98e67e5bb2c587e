"""Which edit is in effect for each fact, and which ones it took the place of."""

from collections.abc import Callable, Hashable, Sequence

from vllm_edit.domain.edit import Edit, Status


class Supersession:
    """Derived from the ledger: hears of every state that an edit enters.

    ``fact`` says what an edit is about; of the edits of one fact the latest supersedes the others.
    """

    def __init__(self, fact: Callable[[Edit], Hashable]) -> None:
        self._fact = fact
        self._active: dict[Hashable, list[str]] = {}
        self._superseded: dict[str, str] = {}

    def note(self, edit: Edit) -> None:
        """Take in the present state of an edit."""
        active = self._active.setdefault(self._fact(edit), [])
        if edit.id in active:
            active.remove(edit.id)
        if edit.status is Status.ACTIVE:
            active.append(edit.id)
        if not active:
            del self._active[self._fact(edit)]
        self._superseded.pop(edit.id, None)
        if edit.superseded_by is not None:
            self._superseded[edit.id] = edit.superseded_by

    def displaced(self, coming: Sequence[Edit]) -> dict[str, str]:
        """Edits that must leave when these come into effect in order, each with its successor.

        They are active ones and, where several of these are about one fact, all but the last.
        """
        displaced: dict[str, str] = {}
        latest: dict[Hashable, list[str]] = {}
        for edit in coming:
            fact = self._fact(edit)
            for earlier in latest.get(fact, self._active.get(fact, [])):
                displaced[earlier] = edit.id
            latest[fact] = [edit.id]
        return displaced

    def predecessors(self, edit_id: str) -> list[str]:
        """The edits that it superseded, which come back when it is taken back."""
        return [earlier for earlier, by in self._superseded.items() if by == edit_id]
