"""The sockets between the servers of one store, protected by CURVE keys."""

import json
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Self

import zmq
import zmq.asyncio
from zmq.auth.asyncio import AsyncioAuthenticator

from vllm_edit import __version__
from vllm_edit.domain.errors import StoreError, Unavailable
from vllm_edit.replication.messages import MAX_BYTES, PROTOCOL

Socket = zmq.asyncio.Socket


@dataclass(frozen=True)
class Address:
    """Where a server takes commands and publishes changes, and the keys to connect to it.

    The store holds it: whoever can read the store knows every edit anyway. ``protocol`` and
    ``version`` are those of the server; 0 and empty if it is older than these.
    """

    commands: str
    changes: str
    server_key: str
    client_key: str
    client_secret: str
    protocol: int = 0
    version: str = ""

    def __str__(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def parse(cls, text: str) -> Self:
        """Raises StoreError if the text is no address."""
        try:
            values = json.loads(text)
            return cls(**{f.name: values[f.name] for f in fields(cls) if f.name in values})
        except (ValueError, TypeError) as error:
            raise StoreError(
                f"The store names no address of its leading server: {error}"
            ) from error


class Bus:
    """The two sockets that a server binds. Lives on one event loop.

    ``where`` is an address without a port, as ``tcp://10.0.0.5``. If it is empty, the sockets are
    in ``folder``, for other servers of this machine and user.
    """

    def __init__(self, where: str, folder: Path) -> None:
        self._where = where
        self._folder = folder
        self._context = zmq.asyncio.Context()
        self._authenticator = AsyncioAuthenticator(self._context)
        self._keys = zmq.curve_keypair()
        self._client = zmq.curve_keypair()
        self.commands = self._socket(zmq.ROUTER)
        self.changes = self._socket(zmq.PUB)

    def open(self) -> Address:
        """Bind the sockets; raises Unavailable if that fails."""
        self._authenticator.start()
        self._authenticator.configure_curve_callback(credentials_provider=self)
        return Address(
            self._bind(self.commands, "commands"),
            self._bind(self.changes, "changes"),
            self._keys[0].decode(),
            self._client[0].decode(),
            self._client[1].decode(),
            PROTOCOL,
            __version__,
        )

    def callback(self, _domain: str, key: bytes) -> bool:
        """Whether a client with that public key may connect; for the authenticator."""
        return key == self._client[0]

    def connect(self, address: Address) -> tuple[Socket, Socket]:
        """Sockets to another server: for commands to it, and for its changes."""
        commands, changes = self._context.socket(zmq.DEALER), self._context.socket(zmq.SUB)
        for socket, place in ((commands, address.commands), (changes, address.changes)):
            socket.setsockopt(zmq.LINGER, 0)
            socket.setsockopt(zmq.MAXMSGSIZE, MAX_BYTES)
            socket.curve_serverkey = address.server_key.encode()
            socket.curve_publickey = address.client_key.encode()
            socket.curve_secretkey = address.client_secret.encode()
            socket.connect(place)
        changes.subscribe(b"")
        return commands, changes

    def close(self) -> None:
        self._authenticator.stop()
        self.commands.close()
        self.changes.close()
        self._context.destroy(linger=0)

    def _socket(self, kind: int) -> Socket:
        socket = self._context.socket(kind)
        socket.setsockopt(zmq.LINGER, 0)
        socket.setsockopt(zmq.MAXMSGSIZE, MAX_BYTES)
        socket.curve_server = True
        socket.curve_publickey, socket.curve_secretkey = self._keys
        return socket

    def _bind(self, socket: Socket, name: str) -> str:
        try:
            if not self._where:
                place = f"ipc://{self._folder / name}"
                socket.bind(place)
                return place
            return f"{self._where}:{socket.bind_to_random_port(self._where)}"
        except zmq.ZMQError as error:
            raise Unavailable(f"The server cannot listen at {self._where}: {error}") from error
