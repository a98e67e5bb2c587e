"""What the servers of one store say to each other: msgpack over ZeroMQ, no pickle.

A server that follows sends a Call to the leading one and gets a CommandReply with the same ``id``.
So does an API process that shares an engine with the one that changes it.
"""

from typing import TypeAlias

import msgspec

from vllm_edit.domain.edit import EditRequest
from vllm_edit.domain.edit_set import EditSet
from vllm_edit.domain.probe import Probes
from vllm_edit.domain.traffic_split import TrafficSplit
from vllm_edit.engine.model_names import Naming

MAX_BYTES = 64 << 20


class Submit(msgspec.Struct, frozen=True, tag="submit", forbid_unknown_fields=True):
    requests: list[EditRequest]
    wait: bool


class RollBack(msgspec.Struct, frozen=True, tag="roll_back", forbid_unknown_fields=True):
    edit_id: str


class CreateSet(msgspec.Struct, frozen=True, tag="create_set", forbid_unknown_fields=True):
    name: str
    owner: str | None
    probes: Probes | None = None


class FreezeSet(msgspec.Struct, frozen=True, tag="freeze_set", forbid_unknown_fields=True):
    name: str
    frozen: bool


class ActivateSet(msgspec.Struct, frozen=True, tag="activate_set", forbid_unknown_fields=True):
    name: str
    active: bool


class DeleteSet(msgspec.Struct, frozen=True, tag="delete_set", forbid_unknown_fields=True):
    name: str


class SetSplit(msgspec.Struct, frozen=True, tag="set_split", forbid_unknown_fields=True):
    split: TrafficSplit | None


class Watch(msgspec.Struct, frozen=True, tag="watch", forbid_unknown_fields=True):
    """Tell an API process the names, once they changed so often and the revision is served."""

    process: str
    changes: int
    revision: int


class Report(msgspec.Struct, frozen=True, tag="report", forbid_unknown_fields=True):
    """No request of an API process uses earlier names than those after so many changes."""

    process: str
    changes: int


class Reached(msgspec.Struct, frozen=True, tag="reached", forbid_unknown_fields=True):
    """Every change up to the revision is in effect in an API process."""

    process: str
    revision: int


ChangeCommand: TypeAlias = (
    Submit | RollBack | CreateSet | FreezeSet | ActivateSet | DeleteSet | SetSplit
)
Command: TypeAlias = ChangeCommand | Watch | Report | Reached


class Call(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Carry out a command and answer under the id."""

    id: str
    command: Command


class Names(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How the variants are served after so many changes."""

    changes: int
    namings: dict[str, Naming]


class CommandResult(msgspec.Struct, frozen=True, tag="answer", forbid_unknown_fields=True):
    """It is done and in the ledger at this revision: to these edits, or to this set."""

    id: str
    revision: int
    edit_ids: list[str] = []
    edit_set: EditSet | None = None
    names: Names | None = None


class CommandRefused(msgspec.Struct, frozen=True, tag="refused", forbid_unknown_fields=True):
    """It raised this error of `vllm_edit.domain.errors`."""

    id: str
    kind: str
    code: str
    message: str
    field: str | None = None
    retry_after: float = 0.0


CommandReply: TypeAlias = CommandResult | CommandRefused
