"""Locks that end with the process that holds them, however it ends."""

import fcntl
import os
import weakref
from pathlib import Path
from typing import Protocol

from vllm_edit.domain.errors import StoreError


class Lock(Protocol):
    """Held by at most one process at a time, for as long as that lives or until it lets go."""

    def acquire(self) -> bool:
        """Take it if it is free, without waiting; whether it is held now. May be repeated.

        Raises:
            StoreError: it cannot be found out.
        """
        ...

    def held(self) -> bool:
        """Whether it is still held."""
        ...

    def release(self) -> None:
        """Let go, if it is held."""
        ...


class FileLock:
    """``flock`` on a file of its own, which stays behind."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: int | None = None
        _ALL.add(self)

    def acquire(self) -> bool:
        if self._file is not None:
            return True
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
        return self._file is not None

    def release(self) -> None:
        """Let go; a child process of a fork only forgets about it."""
        if self._file is not None:
            os.close(self._file)
            self._file = None


_ALL: "weakref.WeakSet[FileLock]" = weakref.WeakSet()


def _forget() -> None:
    for lock in _ALL:
        lock.release()


# A forked child shares the open file, and would keep the lock when its parent is gone.
os.register_at_fork(after_in_child=_forget)
