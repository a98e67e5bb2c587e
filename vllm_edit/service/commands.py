"""The commands that change edits, edit sets and the split of traffic.

They are also the messages between the servers of one store, so their fields are a wire format.
"""

from typing import TypeAlias

import msgspec

from vllm_edit.domain.edit import EditRequest
from vllm_edit.domain.probe import Probes
from vllm_edit.domain.traffic_split import TrafficSplit


class Submit(msgspec.Struct, frozen=True, tag="submit", forbid_unknown_fields=True):
    """Propose new edits; with ``wait`` the answer comes when each is active or has failed."""

    requests: list[EditRequest]
    wait: bool


class RollBack(
    msgspec.Struct, frozen=True, tag="roll_back", forbid_unknown_fields=True, omit_defaults=True
):
    """Take an edit back; with ``erase`` also erase its texts, even if it has ended before."""

    edit_id: str
    erase: bool = False


class CreateSet(msgspec.Struct, frozen=True, tag="create_set", forbid_unknown_fields=True):
    name: str
    owner: str | None = None
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


EditCommand: TypeAlias = Submit | RollBack
SetCommand: TypeAlias = CreateSet | FreezeSet | ActivateSet | DeleteSet
ChangeCommand: TypeAlias = EditCommand | SetCommand | SetSplit
