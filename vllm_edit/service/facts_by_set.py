"""Which sets say something about each fact."""

from collections import Counter
from collections.abc import Callable, Collection, Hashable

from vllm_edit.domain.edit import ENDED, Edit

Home = str | None
"""The name of an edit set, or None for edits that are in none."""


class FactsBySet:
    """Derived from the ledger: hears of every state that an edit enters.

    ``fact`` says what an edit is about. Only edits that have not ended count.
    """

    def __init__(self, fact: Callable[[Edit], Hashable]) -> None:
        self._fact = fact
        self._claims: dict[str, tuple[Hashable, Home]] = {}
        self._homes: dict[Hashable, Counter[Home]] = {}

    def note(self, edit: Edit) -> None:
        """Take in the present state of an edit."""
        if edit.status in ENDED:
            self._drop(edit.id)
        elif edit.id not in self._claims:
            fact, home = self._fact(edit), edit.request.edit_set
            self._claims[edit.id] = fact, home
            self._homes.setdefault(fact, Counter())[home] += 1

    def among(self, fact: Hashable, homes: Collection[Home]) -> set[Home]:
        """Those of the sets that have an edit of the fact."""
        return {home for home in self._homes.get(fact, ()) if home in homes}

    def of(self, home: Home) -> set[Hashable]:
        """The facts that a set has edits of."""
        return {fact for fact, found in self._claims.values() if found == home}

    def _drop(self, edit_id: str) -> None:
        fact, home = self._claims.pop(edit_id, (None, None))
        homes = self._homes.get(fact)
        if homes is None:
            return
        homes[home] -= 1
        if not homes[home]:
            del homes[home]
        if not homes:
            del self._homes[fact]
