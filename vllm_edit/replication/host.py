"""A server's own side of the bus: carries out what others ask for, and tells of changes."""

import asyncio
from collections.abc import Awaitable, Callable

import msgspec

from vllm_edit.domain.errors import EditError, Overloaded
from vllm_edit.replication.bus import Bus
from vllm_edit.replication.messages import (
    Call,
    Command,
    CommandRefused,
    CommandReply,
    CommandResult,
)
from vllm_edit.service.service import EditService

_calls = msgspec.msgpack.Decoder(Call)
_encoder = msgspec.msgpack.Encoder()


class Host:
    """Serves the commands of others, any number at a time, with ``carry_out``."""

    def __init__(
        self,
        bus: Bus,
        service: EditService,
        carry_out: Callable[[Command], Awaitable[CommandResult]],
    ) -> None:
        self._bus = bus
        self._service = service
        self._carry_out = carry_out
        self._running: set[asyncio.Task[None]] = set()

    async def serve(self) -> None:
        """Until cancelled."""
        try:
            await asyncio.gather(self._take(), self._tell())
        finally:
            for task in self._running:
                task.cancel()

    async def _take(self) -> None:
        while True:
            peer, data = await self._bus.commands.recv_multipart()
            try:
                call = _calls.decode(data)
            except msgspec.DecodeError:
                continue
            task = asyncio.create_task(self._answer(peer, call))
            self._running.add(task)
            task.add_done_callback(self._running.discard)

    async def _answer(self, peer: bytes, call: Call) -> None:
        reply = await self._reply(call)
        await self._bus.commands.send_multipart([peer, _encoder.encode(reply)])

    async def _reply(self, call: Call) -> CommandReply:
        try:
            done = await self._carry_out(call.command)
        except EditError as error:
            after = error.retry_after if isinstance(error, Overloaded) else 0.0
            kind = type(error).__name__
            return CommandRefused(call.id, kind, error.code, error.message, error.field, after)
        return msgspec.structs.replace(done, id=call.id)

    async def _tell(self) -> None:
        while True:
            revision = self._service.served_revision
            await self._bus.changes.send(str(revision).encode())
            await self._service.reached(revision + 1)
