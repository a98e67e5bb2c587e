"""Which edits a client asks to see, and one page of them."""

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from itertools import islice

from vllm_edit.domain.edit import Edit, Status


@dataclass(frozen=True)
class EditQuery:
    """At most ``limit`` edits that have all properties named here, oldest first unless ``latest``.

    An empty ``statuses``, and None for the others, let every edit pass.
    """

    limit: int
    statuses: Collection[Status] = ()
    method: str | None = None
    edit_set: str | None = None
    subject: str | None = None
    latest: bool = False

    def wants(self, edit: Edit) -> bool:
        request = edit.request
        return (
            (not self.statuses or edit.status in self.statuses)
            and self.method in (None, request.method)
            and self.edit_set in (None, request.edit_set)
            and self.subject in (None, request.subject)
        )


def page(
    edits: Sequence[Edit], query: EditQuery, sees: Callable[[Edit], bool], after: Edit | None = None
) -> tuple[list[Edit], bool]:
    """The first wanted edits that a client sees behind ``after``, and whether there are more.

    ``edits`` are in the order of their proposal.
    """
    found = (e for e in _behind(edits, query, after) if query.wants(e) and sees(e))
    first = list(islice(found, query.limit + 1))
    return first[: query.limit], len(first) > query.limit


def _behind(edits: Sequence[Edit], query: EditQuery, after: Edit | None) -> Iterable[Edit]:
    if query.latest:
        end = len(edits) if after is None else bisect_left(edits, after.proposed, key=_age)
        return (edits[number] for number in range(end - 1, -1, -1))
    start = 0 if after is None else bisect_right(edits, after.proposed, key=_age)
    return islice(edits, start, None)


def _age(edit: Edit) -> int:
    return edit.proposed
