"""What every kind of method can do to make edits effective."""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from vllm_edit.edit import Edit, EditRequest


@dataclass(frozen=True)
class Change:
    """Edits of one method that come into effect and edits that leave it, in one step."""

    coming: Sequence[Edit] = ()
    leaving: Sequence[Edit] = ()


class Method(Protocol):
    """One way for edits to take effect.

    The service calls ``apply`` one at a time and never in the middle of ``ready``; ``compute``
    may run beside everything, itself included.
    """

    names: frozenset[str]
    """The values of ``method`` in a request that it serves."""

    batched: frozenset[str]
    """Those of them whose edits, posted in one list, are computed together as one batch."""

    queued: bool
    """Whether computing takes long enough to be done after the request was answered."""

    @property
    def labels(self) -> tuple[str, ...]:
        """Names of the methods that shape every answer at the moment, whatever it asks."""

    def check(self, requests: Sequence[EditRequest]) -> None:
        """Raise InvalidEdit if one of these, posted together, breaks a rule of this method's own,
        or two of them exclude each other."""

    def fact(self, request: EditRequest) -> Hashable:
        """What the request is about: of edits with the same, the latest is in effect."""

    def warnings(self, edit_id: str) -> Sequence[str]:
        """What a user should know of an edit of the method's that is in effect; else nothing."""

    async def prepare(self) -> None:
        """Load what a first edit would otherwise wait for."""

    async def restore(self, edits: Sequence[Edit], revision: int) -> None:
        """Bring a server that has just started to exactly the active ones of these edits.

        They are all edits of the method that have not ended, oldest first.

        Raises:
            EditError: that cannot be done; the server must not serve.
        """

    async def compute(self, change: Change) -> Any:
        """What ``apply`` needs for the change; alters nothing that is served.

        Raises:
            TargetNotReached: it can perhaps be made without some of the edits.
            EditError: with the reason that the change cannot be made for.
        """

    def ready(self, change: Change, computed: Any) -> bool:
        """Whether ``apply`` can make the change now with what was computed for it earlier."""

    async def apply(self, change: Change, computed: Any, revision: int) -> None:
        """Make the change effective under this revision, all or nothing.

        Raises:
            EditError: what was in effect before still is.
        """

    async def forget(self, edits: Sequence[Edit]) -> None:
        """Drop what is kept for edits that have ended: they never come back."""

    async def close(self) -> None:
        """Release processes and files."""
