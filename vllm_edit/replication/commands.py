"""Commands of other servers, carried out by the leading one."""

from typing import assert_never

from vllm_edit.replication.messages import (
    ActivateSet,
    ChangeCommand,
    CommandResult,
    CreateSet,
    DeleteSet,
    FreezeSet,
    RollBack,
    SetSplit,
    Submit,
)
from vllm_edit.service.service import EditService


async def carry_out(service: EditService, change: ChangeCommand) -> CommandResult:
    """Do what is asked for, as for a client of this server; raises what the service raises."""
    edit_ids, edit_set = [], None
    match change:
        case Submit(requests, wait):
            edit_ids = [edit.id for edit in await service.submit(requests, wait)]
        case RollBack(edit_id):
            edit_ids = [(await service.roll_back(edit_id)).id]
        case CreateSet(name, owner, probes):
            edit_set = await service.create_set(name, owner, probes)
        case FreezeSet(name, frozen):
            edit_set = await service.freeze_set(name, frozen)
        case ActivateSet(name, active):
            edit_set = await service.activate_set(name, active)
        case DeleteSet(name):
            edit_set = await service.delete_set(name)
        case SetSplit(split):
            await service.set_split(split)
        case _:
            assert_never(change)
    return CommandResult("", service.revision, edit_ids, edit_set)
