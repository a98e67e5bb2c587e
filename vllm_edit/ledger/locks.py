"""Locks that end with the process that holds them, however it ends."""

import fcntl
import os
import weakref
from pathlib import Path
from typing import Protocol

from vllm_edit.domain.errors import StoreError


class Lock(Protocol):
    """Held by at most one process at a time, until that releases it or ends."""

    def acquire(self) -> bool:
        """Take it if it is free, without waiting; returns whether it is held. May be repeated.

        Raises StoreError if the lock cannot be reached.
        """
        ...

    def held(self) -> bool:
        """Whether it is still held."""
        ...

    def release(self) -> None:
        """Release it if it is held."""
        ...


class FileLock:
    """``flock`` on a file of its own, which is never deleted."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: int | None = None
        _ALL.add(self)

    def acquire(self) -> bool:
        if self.held():
            return True
        self.release()
        try:
            file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise StoreError(
                f"The edit store cannot be locked ({error}). See that its folder is there and may "
                "be written."
            ) from error
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(file)
            if isinstance(error, BlockingIOError):
                return False
            raise StoreError(
                f"{self._path} cannot be locked ({error}). Keep the edit store on a local disk."
            ) from error
        self._file = file
        return True

    def held(self) -> bool:
        """Whether it is held, and another process that locks the same path would be refused."""
        if self._file is None:
            return False
        try:
            there = self._path.stat()
        except OSError:
            return False
        return os.path.samestat(there, os.fstat(self._file))

    def release(self) -> None:
        """Release it; in a forked child this only closes the child's copy."""
        if self._file is not None:
            os.close(self._file)
            self._file = None


_ALL: "weakref.WeakSet[FileLock]" = weakref.WeakSet()


def _release_all() -> None:
    for lock in _ALL:
        lock.release()


# A forked child shares the open file and would keep the lock after its parent ended.
os.register_at_fork(after_in_child=_release_all)
