"""Memory in use on this machine's NVIDIA devices."""

from vllm_edit.vllm_interface import devices


class DeviceMemory:
    """All GPUs that the driver reports; none without a driver.

    Counts the use of all programs, because in a container the driver's process ids are unknown.
    """

    def __init__(self) -> None:
        # Here, not at the top: it imports torch, and most runs end before they need it.
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
