"""Editor processes that are forked, where a server would import everything anew for each.

A server starts its editor with ``sys.executable``. Here that is a launcher, which asks the
server's nursery, forked before, to fork an editor, and lives as long as this one does. The editor
becomes a child of the server and belongs to its process group, as one that it started itself.
"""

import ctypes
import os
import socket
import stat
import sys
import time
import traceback
from pathlib import Path
from typing import NoReturn

NAME = "editor"
"""What editors are called in a list of processes."""

_PR_SET_NAME = 15
_PR_SET_CHILD_SUBREAPER = 36

_LAUNCHER = """#!{python} -ISE
import os, signal, socket, sys
with socket.socket(socket.AF_UNIX) as asked:
    asked.connect({path!r})
    asked.sendall("\\0".join(sys.argv[1:]).encode())
    asked.shutdown(socket.SHUT_WR)
    editor = int(asked.recv(16))
    signal.signal(signal.SIGTERM, lambda *_: os.kill(editor, signal.SIGTERM))
    asked.recv(1)
"""


def adopt_orphans() -> None:
    """Become the parent of processes below this one whose parents are gone."""
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def fork_them(folder: Path) -> None:
    """Let the server that this process is about to become fork its editors."""
    adopt_orphans()
    path = folder / f"nursery-{os.getpid()}.sock"
    listening = socket.socket(socket.AF_UNIX)
    listening.bind(str(path))
    listening.listen()
    server = os.getpid()
    if os.fork() == 0:
        _nurse(listening, server)
    listening.close()
    launcher = path.with_suffix(".py")
    launcher.write_text(_LAUNCHER.format(python=sys.executable, path=str(path)))
    launcher.chmod(stat.S_IRWXU)
    sys.executable = str(launcher)


def _nurse(listening: socket.socket, server: int) -> NoReturn:
    while True:
        asked, _ = listening.accept()
        with asked, asked.makefile("r") as sent:
            words = sent.read().split("\0")
            # The one between ends at once, so that the editor becomes the server's.
            between = os.fork()
            if between == 0:
                if os.fork() == 0:
                    listening.close()
                    _edit(asked, server, words)
                os._exit(0)
            os.waitpid(between, 0)


def _edit(asked: socket.socket, server: int, words: list[str]) -> NoReturn:
    """Be the editor; `asked` ends with it, and so does the launcher."""
    status = 1
    try:
        while os.getppid() != server:
            time.sleep(0.001)
        ctypes.CDLL(None).prctl(_PR_SET_NAME, NAME.encode(), 0, 0, 0)
        asked.sendall(str(os.getpid()).encode())
        from vllm_edit.editor import process

        sys.argv = words[1:]
        process.main()
    except SystemExit:
        status = 0
    finally:
        if status:
            traceback.print_exc()
        os._exit(status)
