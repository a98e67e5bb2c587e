"""A follower's connection to the leading server."""

import asyncio
import secrets
from contextlib import suppress

import msgspec

from vllm_edit.domain import errors
from vllm_edit.domain.actor import current_actor
from vllm_edit.domain.errors import EditError, Overloaded, Unavailable
from vllm_edit.processes.supervision import supervised
from vllm_edit.replication.bus import Address, Bus
from vllm_edit.replication.messages import (
    Call,
    Command,
    CommandRefused,
    CommandReply,
    CommandResult,
)

_replies: msgspec.msgpack.Decoder[CommandReply] = msgspec.msgpack.Decoder(
    CommandResult | CommandRefused
)
_encoder = msgspec.msgpack.Encoder()


class Connection:
    """Sends commands, and receives notices of changes. Lives on one event loop."""

    def __init__(self, bus: Bus, address: Address) -> None:
        self.address = address
        self._commands, self._changes = bus.connect(address)
        self._waiting: dict[str, asyncio.Future[CommandResult]] = {}
        self._receiving = supervised("replies", self._receive)

    async def ask(self, command: Command) -> CommandResult:
        """Have the leading server run a command.

        Raises:
            EditError: what the leading server raised.
            Unavailable: it ended before it answered.
        """
        call = Call(secrets.token_hex(8), command, current_actor())
        self._waiting[call.id] = asyncio.get_running_loop().create_future()
        try:
            await self._commands.send(_encoder.encode(call))
            return await self._waiting[call.id]
        finally:
            del self._waiting[call.id]

    async def wait_for_change(self, seconds: float) -> None:
        """Wait for the notice of a change, at most so long."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._changes.recv()

    async def close(self) -> None:
        self._receiving.cancel()
        await asyncio.gather(self._receiving, return_exceptions=True)
        for future in self._waiting.values():
            if not future.done():
                future.set_exception(_lost())
        self._commands.close()
        self._changes.close()

    async def _receive(self) -> None:
        while True:
            try:
                reply = _replies.decode(await self._commands.recv())
            except msgspec.DecodeError:
                continue
            future = self._waiting.get(reply.id)
            if future is None or future.done():
                continue
            if isinstance(reply, CommandRefused):
                future.set_exception(_error(reply))
            else:
                future.set_result(reply)


def _lost() -> Unavailable:
    return Unavailable(
        "The server that leads the edit store ended before it answered. GET /v1/edits shows "
        "whether it did what was asked; if not, ask again.",
        code="leader_lost",
    )


def _error(reply: CommandRefused) -> EditError:
    kind = getattr(errors, reply.kind, EditError)
    error: EditError = kind(reply.message)
    error.code, error.field = reply.code, reply.field
    if isinstance(error, Overloaded):
        error.retry_after = reply.retry_after
    return error
