"""The messages between the servers of one store: msgpack over ZeroMQ, no pickle.

A server that follows sends a Call to the leading one and gets a CommandReply with the same ``id``.
So does an API process that shares an engine with the one that changes it. Only servers of one
`PROTOCOL` talk to each other.
"""

from typing import TypeAlias

import msgspec

from vllm_edit import __version__
from vllm_edit.domain.actor import Actor
from vllm_edit.domain.edit_set import EditSet
from vllm_edit.domain.errors import Unavailable
from vllm_edit.engine.model_names import Naming
from vllm_edit.service.commands import ChangeCommand

MAX_BYTES = 64 << 20

PROTOCOL = 2
"""Changes whenever a message changes, those of `vllm_edit.service.commands` included."""


class GetNames(msgspec.Struct, frozen=True, tag="watch", forbid_unknown_fields=True):
    """Get the names once they have changed ``changes`` times and the revision is served."""

    process: str
    changes: int
    revision: int


class ReportNames(msgspec.Struct, frozen=True, tag="report", forbid_unknown_fields=True):
    """All requests of an API process use the names after ``changes`` changes, or later ones."""

    process: str
    changes: int


class ReportRevision(msgspec.Struct, frozen=True, tag="reached", forbid_unknown_fields=True):
    """Every change up to the revision is in effect in an API process."""

    process: str
    revision: int


class GetHealth(msgspec.Struct, frozen=True, tag="health", forbid_unknown_fields=True):
    """Learn whether the engine has stopped."""


ProcessCommand: TypeAlias = GetNames | ReportNames | ReportRevision | GetHealth
Command: TypeAlias = ChangeCommand | ProcessCommand


class Call(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """A command of an actor; its reply has the same id."""

    id: str
    command: Command
    actor: Actor | None = None


class Names(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The names under which variants are served after ``changes`` changes."""

    changes: int
    namings: dict[str, Naming]


class CommandResult(msgspec.Struct, frozen=True, tag="answer", forbid_unknown_fields=True):
    """The command is done, at this revision, for these edits or this set."""

    id: str
    revision: int
    edit_ids: list[str] = []
    edit_set: EditSet | None = None
    names: Names | None = None
    stopped: str | None = None


class CommandRefused(msgspec.Struct, frozen=True, tag="refused", forbid_unknown_fields=True):
    """The command raised this error of `vllm_edit.domain.errors`."""

    id: str
    kind: str
    code: str
    message: str
    field: str | None = None
    retry_after: float = 0.0


CommandReply: TypeAlias = CommandResult | CommandRefused


class _Named(msgspec.Struct):
    id: str


def id_of(data: bytes) -> str | None:
    """The id in a message of any version; None if there is none."""
    try:
        return msgspec.msgpack.decode(data, type=_Named).id
    except msgspec.DecodeError:
        return None


def not_understood() -> Unavailable:
    """The error for a message of another version of vllm-edit."""
    return Unavailable(
        f"The servers of this edit store are of different versions; this one is vllm-edit "
        f"{__version__} and was sent what it does not understand. Run one version on all of them.",
        code="other_version",
    )
