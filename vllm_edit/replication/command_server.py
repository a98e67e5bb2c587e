"""Runs the commands of other servers, and publishes the revision served here."""

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


class CommandServer:
    """Runs any number of commands at a time, each with ``run``."""

    def __init__(
        self,
        bus: Bus,
        service: EditService,
        run: Callable[[Command], Awaitable[CommandResult]],
    ) -> None:
        self._bus = bus
        self._service = service
        self._run = run
        self._running: set[asyncio.Task[None]] = set()

    async def serve(self) -> None:
        """Serve until cancelled."""
        try:
            await asyncio.gather(self._receive(), self._publish_revisions())
        finally:
            for task in self._running:
                task.cancel()

    async def _receive(self) -> None:
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
            result = await self._run(call.command)
        except EditError as error:
            after = error.retry_after if isinstance(error, Overloaded) else 0.0
            kind = type(error).__name__
            return CommandRefused(call.id, kind, error.code, error.message, error.field, after)
        return msgspec.structs.replace(result, id=call.id)

    async def _publish_revisions(self) -> None:
        while True:
            revision = self._service.served_revision
            await self._bus.changes.send(str(revision).encode())
            await self._service.reached(revision + 1)
