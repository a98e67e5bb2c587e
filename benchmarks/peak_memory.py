"""Peak memory of a piece of work."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import psutil  # type: ignore[import-untyped]  # it brings no types
import torch

_POLL_SECONDS = 0.005


@dataclass
class Peak:
    """Bytes above the memory at the start."""

    bytes: int = 0


@contextmanager
def peak(device: str) -> Iterator[Peak]:
    """Measure in a context: PyTorch's allocations on a GPU, else the process's resident memory."""
    measured = Peak()
    if device.startswith("cuda"):
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        yield measured
        measured.bytes = torch.cuda.max_memory_allocated(device) - before
        return
    process = psutil.Process()
    before = process.memory_info().rss
    done = threading.Event()

    def watch() -> None:
        while not done.wait(_POLL_SECONDS):
            measured.bytes = max(measured.bytes, process.memory_info().rss - before)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield measured
    finally:
        done.set()
        watcher.join()
