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
    id_of,
    not_understood,
)

_replies: msgspec.msgpack.Decoder[CommandReply] = msgspec.msgpack.Decoder(
    CommandResult | CommandRefused
)
_encoder = msgspec.msgpack.Encoder()


SILENCE_SECONDS = 30.0
"""After so long without a heartbeat, a leading server answers no more."""


class Connection:
    """Sends commands, and receives notices of changes. Lives on one event loop.

    The address must be that of a server of the same protocol.
    """

    def __init__(self, bus: Bus, address: Address) -> None:
        self.address = address
        self._commands, self._changes = bus.connect(address)
        self._waiting: dict[str, asyncio.Future[CommandResult]] = {}
        self._changed = asyncio.Event()
        self._latest = b""
        self._tasks = [
            supervised("replies", self._receive),
            supervised("notices", self._listen),
        ]

    async def ask(self, command: Command) -> CommandResult:
        """Have the leading server run a command.

        Raises:
            EditError: what the leading server raised.
            Unavailable: it ended before it answered, or is silent, or of another version.
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
                await self._changed.wait()
        self._changed.clear()

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._give_up(_lost())
        self._commands.close()
        self._changes.close()

    async def _receive(self) -> None:
        while True:
            data = await self._commands.recv()
            future = self._waiting.get(id_of(data) or "")
            if future is None or future.done():
                continue
            try:
                reply = _replies.decode(data)
            except msgspec.DecodeError:
                future.set_exception(not_understood())
                continue
            if isinstance(reply, CommandRefused):
                future.set_exception(_error(reply))
            else:
                future.set_result(reply)

    async def _listen(self) -> None:
        while True:
            try:
                async with asyncio.timeout(SILENCE_SECONDS):
                    revision = await self._changes.recv()
            except TimeoutError:
                self._give_up(_lost())
                continue
            if revision != self._latest:
                self._latest = revision
                self._changed.set()

    def _give_up(self, error: EditError) -> None:
        for future in self._waiting.values():
            if not future.done():
                future.set_exception(error)


def _lost() -> Unavailable:
    return Unavailable(
        "The server that leads the edit store ended, or fell silent, before it answered. GET "
        "/v1/edits shows whether it did what was asked; if not, ask again.",
        code="leader_lost",
    )


def _error(reply: CommandRefused) -> EditError:
    kind = getattr(errors, reply.kind, EditError)
    error: EditError = kind(reply.message)
    error.code, error.field = reply.code, reply.field
    if isinstance(error, Overloaded):
        error.retry_after = reply.retry_after
    return error
