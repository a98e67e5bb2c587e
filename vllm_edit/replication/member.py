"""One server of a store: it leads the store, or follows the server that does."""

import asyncio
import logging
from typing import Protocol

from vllm_edit import __version__
from vllm_edit.domain.edit import Edit
from vllm_edit.domain.edit_set import EditSet
from vllm_edit.domain.errors import EditError, StoreReplaced, Unavailable
from vllm_edit.domain.traffic_split import TrafficSplit
from vllm_edit.processes.supervision import supervised
from vllm_edit.replication.bus import Address, Bus
from vllm_edit.replication.command_server import CommandServer
from vllm_edit.replication.follower import Connection
from vllm_edit.replication.messages import (
    PROTOCOL,
    Command,
    CommandResult,
    GetHealth,
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

    def still_leads(self) -> bool:
        """Whether this one, which led, has led without a break."""
        ...

    def leader(self) -> str:
        """The address of the latest leader."""
        ...


class Member:
    """Runs commands on the server that leads the store.

    They are methods of `EditService` and raise what they raise there, and Unavailable while no
    server leads. When they return, the change is in effect here too, and in ``siblings``. A server
    that loses the lead follows the next leader. ``replaced`` says so when the store is no longer
    the one that was followed: then nothing is followed or changed any more.
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
        self._why_none = _no_leader()
        self.replaced: StoreReplaced | None = None
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
        self._tasks.append(supervised("leading or following", self._keep_role))

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
        if self.replaced is not None:
            raise self.replaced
        if self._leads:
            result = await self._run_here(command)
        elif self._leader is None:
            raise self._why_none
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
        names = stopped = None
        match command:
            case GetNames(process, changes, revision):
                await self._service.reached(revision)
                names = await self._siblings.names_after(process, changes)
            case ReportNames(process, changes):
                self._siblings.report_names(process, changes)
            case ReportRevision(process, revision):
                self._siblings.report_revision(process, revision)
            case GetHealth():
                stopped = self._siblings.stopped()
        return CommandResult("", self._service.served_revision, names=names, stopped=stopped)

    async def _may_lead(self) -> bool:
        return await asyncio.to_thread(self._election.try_to_lead, self._address)

    async def _lead(self) -> None:
        await self._service.lead()
        self._leads = True
        LEADS.set(1)
        await self._disconnect()

    async def _keep_role(self) -> None:
        """Lead as long as this server may, and else follow the one that does."""
        while self.replaced is None:
            await self._wait_for_change()
            try:
                await self._check_role()
            except StoreReplaced as error:
                logger.critical("%s", error.message)
                self._leads = False
                LEADS.set(0)
                # Only then may another server lead what is there now.
                await self._service.step_down()
                self.replaced = error
            except EditError as error:
                logger.warning("The edit store cannot be followed now: %s", error.message)

    async def _check_role(self) -> None:
        if self._leads:
            if await asyncio.to_thread(self._election.still_leads):
                return
            logger.warning("This server has lost the lead of the edit store.")
            self._leads = False
            LEADS.set(0)
            await self._service.step_down()
        if await self._may_lead():
            await self._lead()
        else:
            await self._connect()
            await self._service.follow()

    async def _wait_for_change(self) -> None:
        if self._leader is None:
            await asyncio.sleep(POLL_SECONDS)
        else:
            await self._leader.wait_for_change(POLL_SECONDS)

    async def _connect(self) -> None:
        """Keep connected to the server that leads now."""
        text = await asyncio.to_thread(self._election.leader)
        address = Address.parse(text)
        if self._leader is not None and self._leader.address == address:
            return
        await self._disconnect()
        if text == self._address:
            self._why_none = _no_leader()  # this one has lost the lead, and nobody has taken it
        elif address.protocol != PROTOCOL:
            self._why_none = _other_version(address.version)
        else:
            try:
                self._leader = Connection(self._bus, address)
            except Unavailable as error:
                self._why_none = error

    async def _disconnect(self) -> None:
        if self._leader is not None:
            leader, self._leader = self._leader, None
            await leader.close()


def _no_leader() -> Unavailable:
    return Unavailable("No server leads the edit store now; try again.", code="no_leader")


def _other_version(version: str) -> Unavailable:
    return Unavailable(
        f"The server that leads the edit store is vllm-edit {version or 'of an older version'}, "
        f"and this one is {__version__}; they do not understand each other. Send changes to that "
        "one, or run one version on all servers.",
        code="other_version",
    )
