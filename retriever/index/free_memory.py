"""Giving freed memory back to the system."""

import ctypes
import threading

THREAD_NAME = "index-trim"


def release_memory(unused: list[object]) -> None:
    """Free what only this list holds, and let the system have it, on a thread of its own.

    The C library (glibc) otherwise keeps what a thread has freed for that thread, and the one that
    built a structure has ended.
    """
    threading.Thread(target=_free, args=(unused,), name=THREAD_NAME).start()


def _free(unused: list[object]) -> None:
    unused.clear()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
