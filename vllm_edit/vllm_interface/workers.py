"""vLLM's worker processes."""

from collections.abc import Callable, Iterable
from typing import Any, Protocol

from vllm_edit.vllm_interface.symbol import Symbol


class _Platform(Protocol):
    def is_cpu(self) -> bool: ...

    def get_punica_wrapper(self) -> str: ...


class _CpuWrapper(Protocol):
    token_lora_indices: Any

    def update_metadata(self) -> None: ...

    def add_lora_linear(
        self,
        y: Any,
        x: Any,
        lora_a_stacked: Any,
        lora_b_stacked: Any,
        scale: float,
        output_slices: Any,
        *,
        buffer: Any = None,
    ) -> None: ...


class _Config(Protocol):
    additional_config: Any

    def compute_hash(self) -> str: ...


class _ModelRunner(Protocol):
    device: Any
    vllm_config: Any

    def get_model(self) -> Any: ...


class _Worker(Protocol):
    rank: int


class _DeviceWorker(Protocol):
    model_runner: _ModelRunner

    def load_model(self) -> None: ...


class _WorkerWrapper(Protocol):
    worker: Any
    vllm_config: Any


WORKER = Symbol("vllm.v1.worker.worker_base", "WorkerBase", _Worker)
DEVICE_WORKER = Symbol("vllm.v1.worker.gpu_worker", "Worker", _DeviceWorker)
WORKER_WRAPPER = Symbol("vllm.v1.worker.worker_base", "WorkerWrapperBase", _WorkerWrapper)
CURRENT_CONFIG = Symbol("vllm.config.vllm", "set_current_vllm_config")
CONFIG = Symbol("vllm.config.vllm", "VllmConfig", _Config)
MODEL_RUNNER = Symbol("vllm.v1.worker.gpu_model_runner", "GPUModelRunner", _ModelRunner)
MODEL_RUNNER_V2 = Symbol("vllm.v1.worker.gpu.model_runner", "GPUModelRunner", _ModelRunner)
PLATFORM = Symbol("vllm.platforms", "current_platform")
PLATFORM_CLASS = Symbol("vllm.platforms.interface", "Platform", _Platform)
CPU_WRAPPER = Symbol("vllm.lora.punica_wrapper.punica_cpu", "PunicaWrapperCPU", _CpuWrapper)


def add_methods(methods: Iterable[Callable[..., Any]]) -> None:
    """Give the workers of this process these methods, under their names.

    Raises RuntimeError if they have another of such a name.
    """
    worker = WORKER.load()
    for method in methods:
        present = getattr(worker, method.__name__, method)
        if present is not method:
            raise RuntimeError(f"vLLM's workers already have a method {method.__name__}.")
        setattr(worker, method.__name__, method)


def after_loading(action: Callable[[Any], None]) -> None:
    """Have the workers of this process do this, each with itself, when they have their model.

    vLLM compiles it and captures CUDA graphs after that.
    """

    def load_model(wrapper: Any, **options: Any) -> None:
        wrapper.worker.load_model(**options)
        # Where vLLM serves Transformers' own classes, these ask for the configuration when made.
        with CURRENT_CONFIG.load()(wrapper.vllm_config):
            action(wrapper.worker)

    # vLLM calls its workers through this class, which passes on what it does not have.
    WORKER_WRAPPER.load().load_model = load_model


def note_in_compile_hash(worker: Any, name: str, value: str) -> None:
    """Have vLLM's cache of compiled models tell this worker's model from one without the note."""
    config = worker.model_runner.vllm_config
    if isinstance(config.additional_config, dict):
        config.additional_config = {**config.additional_config, name: value}


def use_on_cpu(wrapper: str) -> None:
    """Where workers compute on CPU, have them apply adapters by the class of this full name."""
    platform = PLATFORM.load()
    if platform.is_cpu():
        type(platform).get_punica_wrapper = classmethod(lambda _: wrapper)
