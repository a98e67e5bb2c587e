"""Files and folders that only this user may read or enter."""

import os
import stat
from contextlib import suppress
from pathlib import Path

from vllm_edit.domain.errors import Unavailable

# The longest path of a Unix socket on Linux, minus our longest file name.
_LONGEST = 107 - len("/editor-1000000.sock")


def require_private(folder: Path) -> None:
    """Raise Unavailable unless only this user may enter the folder and a socket's path fits.

    Anyone who may enter it can connect to the sockets in it.
    """
    try:
        status = folder.stat()
    except OSError as error:
        raise Unavailable(f"The folder for sockets cannot be used: {error}") from error
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.getuid() or status.st_mode & 0o077:
        raise Unavailable(f"{folder} must be a folder that only this user may enter (mode 0700).")
    if len(os.fsencode(folder)) > _LONGEST:
        raise Unavailable(f"The path {folder} is too long for a socket: use a shorter one.")


def write_private(path: Path, text: str) -> None:
    """Write a file, over what was there, that only this user may read."""
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        file.write(text)


def make_private(path: Path) -> None:
    """Take what others may do with a file or a folder away, if it is there and is this user's."""
    with suppress(OSError):
        status = path.stat()
        if status.st_uid == os.geteuid() and status.st_mode & 0o077:
            path.chmod(stat.S_IMODE(status.st_mode) & 0o700)


def open_to_others(folder: Path) -> bool:
    """Whether other users may read or enter an existing folder."""
    return bool(folder.stat().st_mode & 0o077)
