"""The sockets between the servers of one store, protected by CURVE keys."""

import hashlib
import json
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Self

import zmq
import zmq.asyncio
from zmq.auth.asyncio import AsyncioAuthenticator
from zmq.utils import z85

from vllm_edit import __version__
from vllm_edit.domain.errors import StoreError, Unavailable
from vllm_edit.processes.private_folder import write_private
from vllm_edit.replication.messages import MAX_BYTES, PROTOCOL

Socket = zmq.asyncio.Socket

_IPC = "ipc://"
_CLIENT_KEY = "client.key"
"""Lies beside the sockets: whoever may enter the folder may connect."""


@dataclass(frozen=True)
class Address:
    """Where a server takes commands and publishes changes, and its public key.

    The store holds it. Whoever can read the store must not be able to connect: that needs a key
    that the store does not hold. ``protocol`` and ``version`` are those of the server; 0 and empty
    if it is older than these.
    """

    commands: str
    changes: str
    server_key: str
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

    ``where`` is an address without a port, as ``tcp://10.0.0.5``; then ``key`` is one that only
    the servers of the store have. If it is empty, the sockets are in ``folder``, for other servers
    of this machine and user.

    Raises Unavailable for an address without a key.
    """

    def __init__(self, where: str, folder: Path, key: str = "") -> None:
        if where and not key:
            raise Unavailable(
                "--edit-bus needs --edit-bus-key-file: a file with a long random key, the same "
                "for all servers of the store."
            )
        self._where = where
        self._key = key
        self._folder = folder
        self._context = zmq.asyncio.Context()
        self._authenticator = AsyncioAuthenticator(self._context)
        self._keys = zmq.curve_keypair()
        self._client = _derived(key) if where else zmq.curve_keypair()
        self.commands = self._socket(zmq.ROUTER)
        self.changes = self._socket(zmq.PUB)

    def open(self) -> Address:
        """Bind the sockets; raises Unavailable if that fails."""
        self._authenticator.start()
        self._authenticator.configure_curve_callback(credentials_provider=self)
        if not self._where:
            write_private(self._folder / _CLIENT_KEY, self._client[1].decode())
        return Address(
            self._bind(self.commands, "commands"),
            self._bind(self.changes, "changes"),
            self._keys[0].decode(),
            PROTOCOL,
            __version__,
        )

    def callback(self, _domain: str, key: bytes) -> bool:
        """Whether a client with that public key may connect; for the authenticator."""
        return key == self._client[0]

    def connect(self, address: Address) -> tuple[Socket, Socket]:
        """Sockets to another server: for commands to it, and for its changes.

        Raises Unavailable if this one has no key to it.
        """
        public, secret = self.client_keys(address)
        commands, changes = self._context.socket(zmq.DEALER), self._context.socket(zmq.SUB)
        for socket, place in ((commands, address.commands), (changes, address.changes)):
            socket.setsockopt(zmq.LINGER, 0)
            socket.setsockopt(zmq.MAXMSGSIZE, MAX_BYTES)
            socket.curve_serverkey = address.server_key.encode()
            socket.curve_publickey, socket.curve_secretkey = public, secret
            socket.connect(place)
        changes.subscribe(b"")
        return commands, changes

    def client_keys(self, address: Address) -> tuple[bytes, bytes]:
        """The public and the secret key by which that server knows others.

        Raises Unavailable if this one has not got them.
        """
        folder = address.commands.removeprefix(_IPC)
        if folder == address.commands:
            if not self._key:
                raise Unavailable(
                    "The server that leads the edit store is reached with a key: give this one "
                    "--edit-bus and --edit-bus-key-file too."
                )
            return _derived(self._key)
        try:
            secret = (Path(folder).parent / _CLIENT_KEY).read_bytes()
        except OSError as error:
            raise Unavailable(
                "The server that leads the edit store has ended, or belongs to another user or "
                f"machine ({error}). Servers on several machines need --edit-bus."
            ) from error
        return zmq.curve_public(secret), secret

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
                place = f"{_IPC}{self._folder / name}"
                socket.bind(place)
                return place
            return f"{self._where}:{socket.bind_to_random_port(self._where)}"
        except zmq.ZMQError as error:
            raise Unavailable(f"The server cannot listen at {self._where}: {error}") from error


def _derived(key: str) -> tuple[bytes, bytes]:
    """The public and the secret key of every client, made from the servers' common key."""
    secret = z85.encode(hashlib.sha256(b"vllm-edit bus\0" + key.encode()).digest())
    return zmq.curve_public(secret), secret
