"""Where the API process that owns a server's engine is found by the others of the server."""

import asyncio
import os
from pathlib import Path

import psutil  # type: ignore[import-untyped]  # it brings no types

_POLL_SECONDS = 0.1


class OwnerFile:
    """Holds the owner's address, in a folder that only this user reads.

    Its name has the process that started the API processes and when that began, so that it never
    is that of another server. To those that are not the owner it is the election: they never lead.
    """

    def __init__(self, folder: Path) -> None:
        parent = os.getppid()
        began = psutil.Process(parent).create_time()
        self._path = folder / f"owner-{parent}-{began:.2f}.json"

    def write(self, address: str) -> None:
        """Let the others find the owner."""
        new = self._path.with_suffix(".new")
        with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
            file.write(address)
        new.replace(self._path)

    def remove(self) -> None:
        """The owner ends."""
        self._path.unlink(missing_ok=True)

    async def found(self) -> None:
        """Return as soon as the owner's address is there."""
        # No event tells of another process's file.
        while not self._path.exists():  # noqa: ASYNC110
            await asyncio.sleep(_POLL_SECONDS)

    def try_to_lead(self, _address: str) -> bool:
        return False

    def leader(self) -> str:
        """The owner's address; raises FileNotFoundError where there is none."""
        return self._path.read_text()
