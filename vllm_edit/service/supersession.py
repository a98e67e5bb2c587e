"""Which edits are in effect for each fact, and which ones they superseded."""

from collections.abc import Callable, Hashable, Sequence

from vllm_edit.domain.edit import Edit, Status


class Supersession:
    """The latest edit of a fact supersedes the others.

    ``update`` must get every state that an edit enters. ``fact_of`` says what an edit is about.
    """

    def __init__(self, fact_of: Callable[[Edit], Hashable]) -> None:
        self._fact_of = fact_of
        self._active: dict[Hashable, list[str]] = {}
        self._successors: dict[str, str] = {}

    def update(self, edit: Edit) -> None:
        """Take in the present state of an edit."""
        active = self._active.setdefault(self._fact_of(edit), [])
        if edit.id in active:
            active.remove(edit.id)
        if edit.status is Status.ACTIVE:
            active.append(edit.id)
        if not active:
            del self._active[self._fact_of(edit)]
        self._successors.pop(edit.id, None)
        if edit.superseded_by is not None:
            self._successors[edit.id] = edit.superseded_by

    def successors(self, coming: Sequence[Edit]) -> dict[str, str]:
        """The edits that are superseded if these take effect in order, each with its successor.

        They are active ones and, where several of ``coming`` are about one fact, all but the last.
        """
        successors: dict[str, str] = {}
        latest: dict[Hashable, list[str]] = {}
        for edit in coming:
            fact = self._fact_of(edit)
            for earlier in latest.get(fact, self._active.get(fact, [])):
                successors[earlier] = edit.id
            latest[fact] = [edit.id]
        return successors

    def superseded_by(self, edit_id: str) -> list[str]:
        """The edits that it superseded; they come back when it is rolled back."""
        return [earlier for earlier, later in self._successors.items() if later == edit_id]
