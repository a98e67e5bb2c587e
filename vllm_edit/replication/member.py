"""One server among those of a store: it leads them, or follows the one that does."""

import asyncio
import logging
from collections.abc import Sequence
from typing import Protocol

from vllm_edit.domain.edit import Edit, EditRequest
from vllm_edit.domain.edit_set import EditSet
from vllm_edit.domain.errors import EditError, Unavailable
from vllm_edit.domain.probe import Probes
from vllm_edit.domain.traffic_split import TrafficSplit
from vllm_edit.replication.bus import Address, Bus
from vllm_edit.replication.commands import carry_out
from vllm_edit.replication.follower import Connection
from vllm_edit.replication.host import Host
from vllm_edit.replication.messages import (
    ActivateSet,
    ChangeCommand,
    Command,
    CommandResult,
    CreateSet,
    DeleteSet,
    FreezeSet,
    Reached,
    Report,
    RollBack,
    SetSplit,
    Submit,
    Watch,
)
from vllm_edit.replication.siblings import Siblings
from vllm_edit.service.service import EditService

logger = logging.getLogger(__name__)

POLL_SECONDS = 1.0
"""How often a server that hears of no change looks for one, and whether it can lead."""


class Election(Protocol):
    """Who leads: a ledger knows."""

    def try_to_lead(self, address: str) -> bool:
        """Lead, if nobody does, and tell others the address; whether this one leads."""
        ...

    def leader(self) -> str:
        """The address of the one that began to lead last."""
        ...


class Member:
    """Makes changes through whichever server leads the store, and then sees them itself.

    Its methods are those of `EditService`, which raise what they raise there, and Unavailable
    while no server leads. What they return is in effect here too, and in its ``siblings``.
    """

    def __init__(
        self, service: EditService, election: Election, bus: Bus, siblings: Siblings | None = None
    ) -> None:
        self._service = service
        self._election = election
        self._bus = bus
        self._siblings = siblings
        self._address = ""
        self._leads = False
        self._leader: Connection | None = None
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Bring into effect what the store holds, and lead or follow from now on.

        Raises EditError if the store cannot be brought into effect; nothing must be served.
        """
        self._address = str(self._bus.open())
        host = Host(self._bus, self._service, self._carry_out)
        self._tasks.append(asyncio.create_task(host.serve()))
        if self._siblings is not None:
            self._siblings.open(self._address)
        leads = await self._may_lead()
        await self._service.start()
        if leads:
            await self._lead()
        else:
            await self._connect()
            self._tasks.append(asyncio.create_task(self._follow()))

    async def stop(self) -> None:
        """Leave the others."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._leader is not None:
            await self._leader.close()
        await self._service.stop()
        if self._siblings is not None:
            self._siblings.close()
        self._bus.close()

    async def submit(self, requests: Sequence[EditRequest], wait: bool) -> list[Edit]:
        answer = await self._change(Submit(list(requests), wait))
        return [self._service.get(edit_id) for edit_id in answer.edit_ids]

    async def roll_back(self, edit_id: str) -> Edit:
        await self._change(RollBack(edit_id))
        return self._service.get(edit_id)

    async def create_set(
        self, name: str, owner: str | None = None, probes: Probes | None = None
    ) -> EditSet:
        return _set(await self._change(CreateSet(name, owner, probes)))

    async def freeze_set(self, name: str, frozen: bool) -> EditSet:
        return _set(await self._change(FreezeSet(name, frozen)))

    async def activate_set(self, name: str, active: bool) -> EditSet:
        return _set(await self._change(ActivateSet(name, active)))

    async def delete_set(self, name: str) -> EditSet:
        return _set(await self._change(DeleteSet(name)))

    async def set_split(self, split: TrafficSplit | None) -> None:
        await self._change(SetSplit(split))

    async def _change(self, change: ChangeCommand) -> CommandResult:
        if self._leads:
            answer = await carry_out(self._service, change)
        else:
            answer = await self._ask(change)
        if self._siblings is not None:
            await self._siblings.in_step(self._service.served_revision)
        return answer

    async def _ask(self, change: ChangeCommand) -> CommandResult:
        if self._leader is None:
            raise Unavailable("No server leads the edit store now; try again.", code="no_leader")
        answer = await self._leader.ask(change)
        if self._service.served_revision < answer.revision:
            await self._service.follow()
        return answer

    async def _carry_out(self, command: Command) -> CommandResult:
        if not isinstance(command, Watch | Report | Reached):
            return await self._change(command)
        if self._siblings is None:
            raise Unavailable("This server has one API process only.")
        names = None
        match command:
            case Watch(process, changes, revision):
                await self._service.reached(revision)
                names = await self._siblings.watch(process, changes)
            case Report(process, changes):
                self._siblings.report(process, changes)
            case Reached(process, revision):
                self._siblings.reached(process, revision)
        return CommandResult("", self._service.served_revision, names=names)

    async def _may_lead(self) -> bool:
        return await asyncio.to_thread(self._election.try_to_lead, self._address)

    async def _lead(self) -> None:
        await self._service.lead()
        self._leads = True

    async def _follow(self) -> None:
        while True:
            try:
                if await self._may_lead():
                    await self._lead()
                    break
                await self._connect()
                await self._service.follow()
            except EditError as error:
                logger.warning("The edit store cannot be followed now: %s", error.message)
            await self._news()
        await self._disconnect()

    async def _news(self) -> None:
        if self._leader is None:
            await asyncio.sleep(POLL_SECONDS)
        else:
            await self._leader.change(POLL_SECONDS)

    async def _connect(self) -> None:
        """Keep connected to the server that leads now."""
        text = await asyncio.to_thread(self._election.leader)
        address = Address.parse(text)
        if self._leader is None or self._leader.address != address:
            await self._disconnect()
            self._leader = Connection(self._bus, address)

    async def _disconnect(self) -> None:
        if self._leader is not None:
            leader, self._leader = self._leader, None
            await leader.close()


def _set(answer: CommandResult) -> EditSet:
    if answer.edit_set is None:
        raise Unavailable("The leading server is of another version; start this one again.")
    return answer.edit_set
