"""Folders for Unix sockets: anyone who may enter the folder can connect to the sockets."""

import os
import stat
from pathlib import Path

from vllm_edit.domain.errors import Unavailable

# The longest path of a Unix socket on Linux, minus our longest file name.
_LONGEST = 107 - len("/editor-1000000.sock")


def require_private(folder: Path) -> None:
    """Raise Unavailable unless only this user may enter the folder and a socket's path fits."""
    try:
        status = folder.stat()
    except OSError as error:
        raise Unavailable(f"The folder for sockets cannot be used: {error}") from error
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.getuid() or status.st_mode & 0o077:
        raise Unavailable(f"{folder} must be a folder that only this user may enter (mode 0700).")
    if len(os.fsencode(folder)) > _LONGEST:
        raise Unavailable(f"The path {folder} is too long for a socket: use a shorter one.")
