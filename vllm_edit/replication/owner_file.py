"""A file by which the API processes of a server find the one that owns its engine."""

import asyncio
import os
from pathlib import Path

import psutil  # type: ignore[import-untyped]  # it brings no types

from vllm_edit.processes.private_folder import write_private

_POLL_SECONDS = 0.1


class OwnerFile:
    """Holds the owner's address, in a folder that only this user can read.

    Its name contains the id and start time of the process that started the API processes, so that
    no other server has the same. For the other processes it is the `Election`: they never lead.
    """

    def __init__(self, folder: Path) -> None:
        parent = os.getppid()
        began = psutil.Process(parent).create_time()
        self._path = folder / f"owner-{parent}-{began:.2f}.json"

    def write(self, address: str) -> None:
        """Publish the owner's address."""
        new = self._path.with_suffix(".new")
        write_private(new, address)
        new.replace(self._path)

    def remove(self) -> None:
        """Remove the file; the owner ends."""
        self._path.unlink(missing_ok=True)

    async def wait(self) -> None:
        """Return as soon as the owner's address is there."""
        # There is no event for another process's file.
        while not self._path.exists():  # noqa: ASYNC110
            await asyncio.sleep(_POLL_SECONDS)

    def try_to_lead(self, _address: str) -> bool:
        return False

    def still_leads(self) -> bool:
        return False

    def leader(self) -> str:
        """The owner's address; raises FileNotFoundError if there is none."""
        return self._path.read_text()
