"""Peak memory of a server and all its processes, and of the devices."""

import threading
from types import TracebackType
from typing import Self

import psutil  # type: ignore[import-untyped]  # it brings no types

from vllm_edit.evaluation.device_memory import DeviceMemory

_POLL_SECONDS = 0.25


class MemoryWatch:
    """The resident memory of a process and its descendants, summed; a context manager.

    Shared pages count once per process. All values are in bytes: `ready` at the start, `peak` the
    largest since. `device_ready` and `device_peak` are the same for all GPUs, None without GPUs.
    """

    def __init__(self, pid: int, devices: DeviceMemory | None = None) -> None:
        self._process = psutil.Process(pid)
        self._devices = devices or DeviceMemory()
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self.peak = self.ready = self._held()
        self.device_peak = self.device_ready = self._devices.held()

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._done.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._done.wait(_POLL_SECONDS):
            self._update()

    def _update(self) -> None:
        self.peak = max(self.peak, self._held())
        if self.device_peak is not None:
            self.device_peak = max(self.device_peak, self._devices.held() or 0)

    def _held(self) -> int:
        total = 0
        try:
            for process in (self._process, *self._process.children(recursive=True)):
                total += _resident(process)
        except psutil.NoSuchProcess:
            return total
        return total


def _resident(process: psutil.Process) -> int:
    try:
        resident: int = process.memory_info().rss
    except psutil.NoSuchProcess:
        return 0
    return resident
