"""Named groups of edits: the unit of A/B, of tenancy and of rollback in bulk."""

import re
from dataclasses import dataclass

from vllm_edit.domain.errors import ConflictingState, InvalidEditSet
from vllm_edit.domain.probe import Probes
from vllm_edit.domain.variant import DEFAULT, RESERVED

_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,62}[A-Za-z0-9])?")


@dataclass(frozen=True)
class EditSet:
    """A set and its present state, as folded from the ledger.

    While ``active``, requests that choose no variant see its edits. While ``frozen``, no edit
    joins or leaves it. A set with an ``owner`` (a tenant) is never active, and only requests of
    that tenant see it. ``probes`` are for its edits that have none. ``revision`` is that of the
    latest change.
    """

    name: str
    owner: str | None
    active: bool
    frozen: bool
    revision: int
    created_at: float
    updated_at: float
    probes: Probes | None = None

    @classmethod
    def new(cls, name: str, owner: str | None, probes: Probes | None = None) -> "EditSet":
        """A set that is not recorded yet: the ledger gives it a revision and times."""
        state = {"active": False, "frozen": False}
        return cls(name, owner, **state, revision=0, created_at=0, updated_at=0, probes=probes)

    @property
    def variants(self) -> tuple[str, ...]:
        """The variants in which its edits take effect."""
        return (self.name, DEFAULT) if self.active else (self.name,)


def check_name(name: str) -> None:
    """Raise InvalidEditSet for a name that no set can have."""
    if name in RESERVED:
        raise InvalidEditSet(
            f"{name!r} always exists and is no edit set; choose another name.", field="name"
        )
    if not _NAME.fullmatch(name):
        raise InvalidEditSet(
            f"{name!r} cannot name an edit set: use 1 to 64 letters, digits, dots, dashes and "
            "underscores, with a letter or digit at both ends.",
            field="name",
        )


def require_thawed(edit_set: EditSet) -> None:
    """Raise ConflictingState for a frozen set."""
    if edit_set.frozen:
        raise ConflictingState(
            f"The edit set {edit_set.name!r} is frozen: thaw it first, with PATCH "
            f'/v1/edit-sets/{edit_set.name} {{"frozen": false}}.',
            code="frozen_edit_set",
        )
