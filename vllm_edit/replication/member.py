"""One server among those of a store: it leads them, or follows the one that does."""

import asyncio
import logging
from collections.abc import Sequence

from vllm_edit.edit import Edit, EditRequest
from vllm_edit.edit_set import EditSet
from vllm_edit.errors import EditError, Unavailable
from vllm_edit.ledger import Ledger
from vllm_edit.replication.bus import Address, Bus
from vllm_edit.replication.follower import Connection
from vllm_edit.replication.leader import Leader
from vllm_edit.replication.messages import (
    ActivateSet,
    Answer,
    Command,
    CreateSet,
    DeleteSet,
    FreezeSet,
    RollBack,
    SetSplit,
    Submit,
)
from vllm_edit.service import EditService
from vllm_edit.split import Split

logger = logging.getLogger(__name__)

POLL_SECONDS = 1.0
"""How often a server that hears of no change looks for one, and whether it can lead."""


class Member:
    """Makes changes through whichever server leads the store, and then sees them itself.

    Its methods are those of `EditService`, which raise what they raise there, and Unavailable
    while no server leads. What they return is in effect here too.
    """

    def __init__(self, service: EditService, ledger: Ledger, bus: Bus) -> None:
        self._service = service
        self._ledger = ledger
        self._bus = bus
        self._address = ""
        self._leads = False
        self._leader: Connection | None = None
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Bring into effect what the store holds, and lead or follow from now on.

        Raises EditError if the store cannot be brought into effect; nothing must be served.
        """
        self._address = str(self._bus.open())
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
        self._bus.close()

    async def submit(self, requests: Sequence[EditRequest], wait: bool) -> list[Edit]:
        if self._leads:
            return await self._service.submit(requests, wait)
        answer = await self._ask(Submit(list(requests), wait))
        return [self._service.get(edit_id) for edit_id in answer.edit_ids]

    async def roll_back(self, edit_id: str) -> Edit:
        if self._leads:
            return await self._service.roll_back(edit_id)
        await self._ask(RollBack(edit_id))
        return self._service.get(edit_id)

    async def create_set(self, name: str, owner: str | None = None) -> EditSet:
        if self._leads:
            return await self._service.create_set(name, owner)
        return _set(await self._ask(CreateSet(name, owner)))

    async def freeze_set(self, name: str, frozen: bool) -> EditSet:
        if self._leads:
            return await self._service.freeze_set(name, frozen)
        return _set(await self._ask(FreezeSet(name, frozen)))

    async def activate_set(self, name: str, active: bool) -> EditSet:
        if self._leads:
            return await self._service.activate_set(name, active)
        return _set(await self._ask(ActivateSet(name, active)))

    async def delete_set(self, name: str) -> EditSet:
        if self._leads:
            return await self._service.delete_set(name)
        return _set(await self._ask(DeleteSet(name)))

    async def set_split(self, split: Split | None) -> None:
        if self._leads:
            await self._service.set_split(split)
        else:
            await self._ask(SetSplit(split))

    async def _ask(self, command: Command) -> Answer:
        if self._leader is None:
            raise Unavailable("No server leads the edit store now; try again.", code="no_leader")
        answer = await self._leader.ask(command)
        if self._service.served_revision < answer.revision:
            await self._service.follow()
        return answer

    async def _may_lead(self) -> bool:
        return await asyncio.to_thread(self._ledger.try_to_lead, self._address)

    async def _lead(self) -> None:
        await self._service.lead()
        self._tasks.append(asyncio.create_task(Leader(self._bus, self._service).serve()))
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
            await self._change()
        await self._disconnect()

    async def _change(self) -> None:
        if self._leader is None:
            await asyncio.sleep(POLL_SECONDS)
        else:
            await self._leader.change(POLL_SECONDS)

    async def _connect(self) -> None:
        """Keep connected to the server that leads now."""
        text = await asyncio.to_thread(self._ledger.leader)
        address = Address.parse(text)
        if self._leader is None or self._leader.address != address:
            await self._disconnect()
            self._leader = Connection(self._bus, address)

    async def _disconnect(self) -> None:
        if self._leader is not None:
            leader, self._leader = self._leader, None
            await leader.close()


def _set(answer: Answer) -> EditSet:
    if answer.edit_set is None:
        raise Unavailable("The leading server is of another version; start this one again.")
    return answer.edit_set
