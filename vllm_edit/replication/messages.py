"""What the servers of one store say to each other: msgpack over ZeroMQ, no pickle.

A server that follows sends the leading one a Call and gets, for its ``id``, one Answer or Refused.
"""

from typing import TypeAlias

import msgspec

from vllm_edit.edit import EditRequest
from vllm_edit.edit_set import EditSet
from vllm_edit.split import Split

MAX_BYTES = 64 << 20


class Submit(msgspec.Struct, frozen=True, tag="submit", forbid_unknown_fields=True):
    requests: list[EditRequest]
    wait: bool


class RollBack(msgspec.Struct, frozen=True, tag="roll_back", forbid_unknown_fields=True):
    edit_id: str


class CreateSet(msgspec.Struct, frozen=True, tag="create_set", forbid_unknown_fields=True):
    name: str
    owner: str | None


class FreezeSet(msgspec.Struct, frozen=True, tag="freeze_set", forbid_unknown_fields=True):
    name: str
    frozen: bool


class ActivateSet(msgspec.Struct, frozen=True, tag="activate_set", forbid_unknown_fields=True):
    name: str
    active: bool


class DeleteSet(msgspec.Struct, frozen=True, tag="delete_set", forbid_unknown_fields=True):
    name: str


class SetSplit(msgspec.Struct, frozen=True, tag="set_split", forbid_unknown_fields=True):
    split: Split | None


Command: TypeAlias = Submit | RollBack | CreateSet | FreezeSet | ActivateSet | DeleteSet | SetSplit


class Call(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Carry out a command and answer under the id."""

    id: str
    command: Command


class Answer(msgspec.Struct, frozen=True, tag="answer", forbid_unknown_fields=True):
    """It is done and in the ledger at this revision: to these edits, or to this set."""

    id: str
    revision: int
    edit_ids: list[str] = []
    edit_set: EditSet | None = None


class Refused(msgspec.Struct, frozen=True, tag="refused", forbid_unknown_fields=True):
    """It raised this error of `vllm_edit.errors`."""

    id: str
    kind: str
    code: str
    message: str
    field: str | None = None
    retry_after: float = 0.0


Reply: TypeAlias = Answer | Refused
