"""One server of a store: it leads the store, or follows the server that does."""

import asyncio
import logging
from typing import Protocol

from vllm_edit.domain.edit import Edit
from vllm_edit.domain.edit_set import EditSet
from vllm_edit.domain.errors import EditError, Unavailable
from vllm_edit.domain.traffic_split import TrafficSplit
from vllm_edit.processes.supervision import supervised
from vllm_edit.replication.bus import Address, Bus
from vllm_edit.replication.command_server import CommandServer
from vllm_edit.replication.follower import Connection
from vllm_edit.replication.messages import (
    Command,
    CommandResult,
    GetNames,
    ProcessCommand,
    ReportNames,
    ReportRevision,
)
from vllm_edit.replication.metrics import LEADS
from vllm_edit.replication.siblings import Siblings
from vllm_edit.service.commands import (
    ChangeCommand,
    EditCommand,
    RollBack,
    SetCommand,
    SetSplit,
    Submit,
)
from vllm_edit.service.service import EditService

logger = logging.getLogger(__name__)

POLL_SECONDS = 1.0
"""How often a follower looks for changes and tries to lead, besides when it is notified."""


class Election(Protocol):
    """Decides who leads, as a ledger does."""

    def try_to_lead(self, address: str) -> bool:
        """Lead if nobody does, and publish the address; returns whether this one leads."""
        ...

    def leader(self) -> str:
        """The address of the latest leader."""
        ...


class Member:
    """Runs commands on the server that leads the store.

    They are methods of `EditService` and raise what they raise there, and Unavailable while no
    server leads. When they return, the change is in effect here too, and in ``siblings``.
    """

    def __init__(
        self, service: EditService, election: Election, bus: Bus, siblings: Siblings | None = None
    ) -> None:
        self._service = service
        self._election = election
        self._bus = bus
        self._siblings = siblings
        self._commands = CommandServer(bus, service, self._run_for_other)
        self._address = ""
        self._leads = False
        self._leader: Connection | None = None
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Bring into effect what the store holds, and lead or follow from now on.

        Raises EditError if the store cannot be brought into effect; nothing must be served.
        """
        self._address = str(self._bus.open())
        self._commands.start()
        if self._siblings is not None:
            self._siblings.open(self._address)
        LEADS.set(0)
        leads = await self._may_lead()
        await self._service.start()
        if leads:
            await self._lead()
        else:
            await self._connect()
            self._tasks.append(supervised("following", self._follow))

    async def stop(self) -> None:
        """Stop leading or following, and close the store."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._commands.close()
        if self._leader is not None:
            await self._leader.close()
        await self._service.stop()
        if self._siblings is not None:
            self._siblings.close()
        self._bus.close()

    async def change_edits(self, command: EditCommand) -> list[Edit]:
        """See `EditService.change_edits`."""
        result = await self._run(command)
        return [self._service.get(edit_id) for edit_id in result.edit_ids]

    async def change_set(self, command: SetCommand) -> EditSet:
        """See `EditService.change_set`."""
        result = await self._run(command)
        if result.edit_set is None:
            raise Unavailable("The leading server is of another version; start this one again.")
        return result.edit_set

    async def set_split(self, split: TrafficSplit | None) -> None:
        """See `EditService.set_split`."""
        await self._run(SetSplit(split))

    async def _run(self, command: ChangeCommand) -> CommandResult:
        """Run a command on the leader, and wait until it is in effect here."""
        if self._leads:
            result = await self._run_here(command)
        elif self._leader is None:
            raise Unavailable("No server leads the edit store now; try again.", code="no_leader")
        else:
            result = await self._leader.ask(command)
            if self._service.served_revision < result.revision:
                await self._service.follow()
        if self._siblings is not None:
            await self._siblings.wait_for_revision(self._service.served_revision)
        return result

    async def _run_here(self, command: ChangeCommand) -> CommandResult:
        edits: list[Edit] = []
        edit_set = None
        match command:
            case Submit() | RollBack():
                edits = await self._service.change_edits(command)
            case SetSplit(split):
                await self._service.set_split(split)
            case _:
                edit_set = await self._service.change_set(command)
        return CommandResult("", self._service.revision, [edit.id for edit in edits], edit_set)

    async def _run_for_other(self, command: Command) -> CommandResult:
        """Run a command of another server, or of an API process of this one."""
        if not isinstance(command, ProcessCommand):
            return await self._run(command)
        if self._siblings is None:
            raise Unavailable("This server has one API process only.")
        names = None
        match command:
            case GetNames(process, changes, revision):
                await self._service.reached(revision)
                names = await self._siblings.names_after(process, changes)
            case ReportNames(process, changes):
                self._siblings.report_names(process, changes)
            case ReportRevision(process, revision):
                self._siblings.report_revision(process, revision)
        return CommandResult("", self._service.served_revision, names=names)

    async def _may_lead(self) -> bool:
        return await asyncio.to_thread(self._election.try_to_lead, self._address)

    async def _lead(self) -> None:
        await self._service.lead()
        self._leads = True
        LEADS.set(1)

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
            await self._wait_for_change()
        await self._disconnect()

    async def _wait_for_change(self) -> None:
        if self._leader is None:
            await asyncio.sleep(POLL_SECONDS)
        else:
            await self._leader.wait_for_change(POLL_SECONDS)

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
