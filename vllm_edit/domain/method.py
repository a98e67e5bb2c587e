"""What every kind of method can do to make edits effective."""

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from vllm_edit.domain.edit import Edit, EditRequest
from vllm_edit.domain.variant import DEFAULT

EditsByVariant = Mapping[str, Sequence[Edit]]
"""By variant, the edits in effect there, oldest first."""


@dataclass(frozen=True)
class MethodChange:
    """Edits of one method that come into effect and edits that leave it, in one step.

    They do so in each of ``variants``; what is computed for them builds on the first.
    ``pause_mode`` replaces the server's, if it is given.
    """

    coming: Sequence[Edit] = ()
    leaving: Sequence[Edit] = ()
    variants: Sequence[str] = (DEFAULT,)
    pause_mode: str | None = None

    @property
    def reverse(self) -> "MethodChange":
        """The change that takes this one back."""
        return MethodChange(self.leaving, self.coming, self.variants, self.pause_mode)


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

    def labels(self, variant: str) -> Sequence[str]:
        """Names of the methods that shape every answer of a variant, whatever is asked."""

    def check(self, requests: Sequence[EditRequest]) -> None:
        """Raise InvalidEdit if one of these, posted together, breaks a rule of this method's own,
        or two of them exclude each other."""

    def fact(self, request: EditRequest) -> Hashable:
        """What the request is about: of edits with the same, the latest is in effect."""

    def warnings(self, edit_id: str) -> Sequence[str]:
        """What a user should know of an edit of the method's that is in effect; else nothing."""

    def drift(self, edit_id: str) -> float | None:
        """Of an edit of the method's that is in effect, how far edits had drifted with it."""

    async def prepare(self) -> None:
        """Load what a first edit would otherwise wait for."""

    @property
    def edits_by_variant(self) -> EditsByVariant:
        """What is in effect; every variant known so far is in it."""

    async def tidy(self, edits: Sequence[Edit]) -> None:
        """Drop what is kept for other edits than these, which are all that have not ended."""

    async def compute(self, change: MethodChange) -> Any:
        """What ``apply`` needs for the change; alters nothing that is served.

        Raises:
            ComputeFailed: the change cannot be made; perhaps without the edits that it names.
            EditError: the change cannot be made.
        """

    def ready(self, change: MethodChange, computed: Any) -> bool:
        """Whether ``apply`` can make the change now with what was computed for it earlier."""

    async def apply(self, change: MethodChange, computed: Any, revision: int) -> None:
        """Make the change effective under this revision, all or nothing.

        A variant not known so far comes to be.

        Raises:
            EditError: what was in effect before still is.
        """

    async def drop(self, variant: str) -> None:
        """Forget a variant, which has ended and in which no edit is in effect."""

    async def forget(self, edits: Sequence[Edit]) -> None:
        """Drop what is kept for edits that have ended: they never come back."""

    async def close(self) -> None:
        """Release processes and files."""


def changes(now: EditsByVariant, wanted: EditsByVariant) -> list[MethodChange]:
    """What brings a method from one state to another, but for the variants that end."""
    found = []
    for variant, edits in wanted.items():
        before = {edit.id for edit in now.get(variant, ())}
        after = {edit.id for edit in edits}
        coming = [edit for edit in edits if edit.id not in before]
        leaving = [edit for edit in now.get(variant, ()) if edit.id not in after]
        if coming or leaving or variant not in now:
            found.append(MethodChange(coming, leaving, (variant,)))
    return found
