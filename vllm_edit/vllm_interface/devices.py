"""NVIDIA's driver, by the module that vLLM brings along."""

from typing import Any, Protocol

from vllm_edit.vllm_interface.symbol import Symbol


class _Driver(Protocol):
    NVMLError: type[Exception]

    def nvmlInit(self) -> None: ...  # noqa: N802 - NVML's name

    def nvmlDeviceGetCount(self) -> int: ...  # noqa: N802 - NVML's name

    def nvmlDeviceGetHandleByIndex(self, index: int) -> Any: ...  # noqa: N802 - NVML's name

    def nvmlDeviceGetMemoryInfo(self, handle: Any) -> Any: ...  # noqa: N802 - NVML's name


DRIVER = Symbol("vllm.third_party.pynvml", uses=_Driver)


def driver() -> _Driver:
    """The functions of NVML; importing them imports torch."""
    module: _Driver = DRIVER.load()
    return module
