"""Returns freed memory to the system."""

import ctypes
import threading

THREAD_NAME = "index-trim"


def release_memory(unused: list[object]) -> None:
    """Free what only this list holds and return it to the system, on a thread of its own.

    The C library (glibc) keeps memory that a thread freed for that thread, but the thread that
    built a structure has ended.
    """
    threading.Thread(target=_free, args=(unused,), name=THREAD_NAME).start()


def _free(unused: list[object]) -> None:
    unused.clear()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
