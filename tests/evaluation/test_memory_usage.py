"""Peak memory of processes and devices."""

import os
import time

from vllm_edit.evaluation.device_memory import DeviceMemory
from vllm_edit.evaluation.memory_usage import MemoryWatch


class Counted(DeviceMemory):
    """A DeviceMemory that returns the given values in turn, then 0."""

    def __init__(self, *held: int) -> None:
        self._left = [*held]

    def held(self) -> int | None:
        return self._left.pop(0) if self._left else 0


def test_memory_of_this_process_and_of_real_devices_if_there_are_any() -> None:
    with MemoryWatch(os.getpid()) as watch:
        pass
    assert watch.peak >= watch.ready > 2**20
    assert (watch.device_peak is None) == (watch.device_ready is None)


def test_the_peak_of_device_memory_is_kept() -> None:
    devices = Counted(2, 7, 3)
    deadline = time.monotonic() + 30
    with MemoryWatch(os.getpid(), devices) as watch:
        while devices._left and time.monotonic() < deadline:
            os.sched_yield()
    assert (watch.device_ready, watch.device_peak) == (2, 7)
