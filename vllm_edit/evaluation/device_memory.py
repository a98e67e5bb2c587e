"""Memory in use on this machine's NVIDIA devices."""

from vllm_edit.vllm_interface import devices


class DeviceMemory:
    """The memory of all GPUs that the driver reports; no GPUs without a driver.

    Counts the memory of all programs, because a container does not see the driver's process ids.
    """

    def __init__(self) -> None:
        # Loaded here because it imports torch, which most runs do not need.
        self._nvml = nvml = devices.driver()
        try:
            nvml.nvmlInit()
            numbers = range(nvml.nvmlDeviceGetCount())
            self._handles = [nvml.nvmlDeviceGetHandleByIndex(number) for number in numbers]
        except nvml.NVMLError:
            self._handles = []

    def held(self) -> int | None:
        """Bytes in use on all of them; None without devices."""
        if not self._handles:
            return None
        return sum(int(self._nvml.nvmlDeviceGetMemoryInfo(h).used) for h in self._handles)
