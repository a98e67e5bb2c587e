"""The interface of all methods that bring edits into effect."""

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from vllm_edit.domain.edit import Edit, EditRequest
from vllm_edit.domain.neuron import Neuron
from vllm_edit.domain.variant import DEFAULT

EditsByVariant = Mapping[str, Sequence[Edit]]
"""The edits in effect in each variant, oldest first."""


@dataclass(frozen=True)
class MethodChange:
    """Edits of one method that come into effect and edits that leave, in one step.

    The change applies to each of ``variants``; it is computed for the state of the first.
    ``pause_mode`` replaces the server's, if given.
    """

    coming: Sequence[Edit] = ()
    leaving: Sequence[Edit] = ()
    variants: Sequence[str] = (DEFAULT,)
    pause_mode: str | None = None

    @property
    def reverse(self) -> "MethodChange":
        """The change that undoes this one."""
        return MethodChange(self.leaving, self.coming, self.variants, self.pause_mode)


class Method(Protocol):
    """One way for edits to take effect.

    The service runs one ``apply`` at a time, and never between ``ready`` and the ``apply`` that
    follows it. ``compute`` may run at any time, also several times at once.
    """

    names: frozenset[str]
    """The values of a request's ``method`` that it serves."""

    batched: frozenset[str]
    """Those names whose edits, if posted in one list, are computed together as one batch."""

    queued: bool
    """Whether computing is so slow that it is done after the request was answered."""

    asked: frozenset[str]
    """Those names whose edits have a target that the server can be asked for."""

    must_tell: frozenset[str]
    """Those of ``asked`` whose edits do not stay in effect if it then answers otherwise."""

    def labels(self, variant: str) -> Sequence[str]:
        """Names of the methods that affect every answer of a variant."""

    def check(self, requests: Sequence[EditRequest]) -> None:
        """Raise InvalidEdit if one of these, posted together, breaks a rule of this method, or two
        exclude each other."""

    def fact(self, request: EditRequest) -> Hashable:
        """What the request is about: of the edits of one fact, the latest is in effect."""

    def warnings(self, edit_id: str) -> Sequence[str]:
        """What a user should know about an edit of this method in effect; empty for others."""

    def drift(self, edit_id: str) -> float | None:
        """The drift with an edit of this method in effect, in nats; None for others."""

    def neurons(self, edit_id: str) -> Sequence[Neuron]:
        """The neurons that an edit in effect changes, for methods that name them; else empty."""

    def places(self, edit_id: str) -> frozenset[str]:
        """What an edit in effect changes besides answers about its subject: names of weights."""

    def take_renewed(self) -> Sequence[str]:
        """The edits, by id, for which something was computed since the last call."""

    async def prepare(self) -> None:
        """Load what the first edit would otherwise wait for."""

    @property
    def edits_by_variant(self) -> EditsByVariant:
        """What is in effect. It has a key for every variant known so far."""

    def serves(self, edit_id: str) -> bool:
        """Whether an edit is in effect in any variant."""

    async def tidy(self, edits: Sequence[Edit]) -> None:
        """Drop what is stored for other edits than these, which are all that have not ended."""

    async def compute(self, change: MethodChange) -> Any:
        """What ``apply`` needs for the change; does not alter what is served.

        Raises:
            ComputeFailed: the change cannot be made; it may be without the edits that this names.
            EditError: the change cannot be made.
        """

    def ready(self, change: MethodChange, computed: Any) -> bool:
        """Whether what was computed earlier still fits, so that ``apply`` can use it."""

    async def apply(self, change: MethodChange, computed: Any, revision: int) -> None:
        """Make the change effective under this revision.

        A variant that is not known yet is created.

        Raises EditError; then `edits_by_variant` says how much of it is in effect: what the engine
        serves changes as a whole or not at all, memories one after another.
        """

    async def drop(self, variant: str) -> None:
        """Forget a deleted variant, in which no edit is in effect."""

    async def forget(self, edits: Sequence[Edit]) -> None:
        """Drop what is stored for edits that have ended; they never come back."""

    async def close(self) -> None:
        """Release processes and files."""


def changes_between(current: EditsByVariant, target: EditsByVariant) -> list[MethodChange]:
    """The changes from one state to another; deleted variants are left as they are."""
    changes = []
    for variant, edits in target.items():
        before = {edit.id for edit in current.get(variant, ())}
        after = {edit.id for edit in edits}
        coming = [edit for edit in edits if edit.id not in before]
        leaving = [edit for edit in current.get(variant, ()) if edit.id not in after]
        if coming or leaving or variant not in current:
            changes.append(MethodChange(coming, leaving, (variant,)))
    return changes
