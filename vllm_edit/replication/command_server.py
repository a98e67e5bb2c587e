"""Runs the commands of other servers, and publishes the revision served here."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial

import msgspec

from vllm_edit.domain.actor import acting
from vllm_edit.domain.errors import EditError, InternalError, Overloaded
from vllm_edit.processes.supervision import in_background, report_fault, supervised
from vllm_edit.replication.bus import Bus
from vllm_edit.replication.messages import (
    Call,
    Command,
    CommandRefused,
    CommandReply,
    CommandResult,
    id_of,
    not_understood,
)
from vllm_edit.service.service import EditService

HEARTBEAT_SECONDS = 2.0

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
        self._tasks: list[asyncio.Task[None]] = []
        self._running: set[asyncio.Task[None]] = set()

    def start(self) -> None:
        """Serve until closed."""
        self._tasks = [
            supervised("commands", self._receive),
            supervised("revisions", self._publish_revisions),
        ]

    async def close(self) -> None:
        """Serve no more."""
        tasks = [*self._tasks, *self._running]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _receive(self) -> None:
        while True:
            peer, *parts = await self._bus.commands.recv_multipart()
            try:
                call = _calls.decode(b"".join(parts))
            except msgspec.DecodeError:
                await self._refuse_unknown(peer, b"".join(parts))
                continue
            task = in_background("commands", partial(self._answer, peer, call))
            self._running.add(task)
            task.add_done_callback(self._running.discard)

    async def _refuse_unknown(self, peer: bytes, data: bytes) -> None:
        """Answer what is no call here: a server of another version would wait for ever."""
        if (call_id := id_of(data)) is not None:
            reply = _encoder.encode(_refused(call_id, not_understood()))
            await self._bus.commands.send_multipart([peer, reply])

    async def _answer(self, peer: bytes, call: Call) -> None:
        reply = await self._reply(call)
        await self._bus.commands.send_multipart([peer, _encoder.encode(reply)])

    async def _reply(self, call: Call) -> CommandReply:
        try:
            with acting(call.actor):
                result = await self._run(call.command)
        except EditError as error:
            return _refused(call.id, error)
        except Exception as error:  # noqa: BLE001 - whatever it is, the one who asked must hear
            report_fault("commands", error)
            return _refused(call.id, InternalError.of(error))
        return msgspec.structs.replace(result, id=call.id)

    async def _publish_revisions(self) -> None:
        """Each when it is served, and again and again, so that silence means something."""
        while True:
            revision = self._service.served_revision
            await self._bus.changes.send(str(revision).encode())
            with suppress(TimeoutError):
                async with asyncio.timeout(HEARTBEAT_SECONDS):
                    await self._service.reached(revision + 1)


def _refused(call_id: str, error: EditError) -> CommandRefused:
    after = error.retry_after if isinstance(error, Overloaded) else 0.0
    kind = type(error).__name__
    return CommandRefused(call_id, kind, error.code, error.message, error.field, after)
