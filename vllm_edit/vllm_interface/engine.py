"""The engine behind vLLM's server, as its front end calls it."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal, Protocol

from vllm_edit.vllm_interface.models import Adapter
from vllm_edit.vllm_interface.symbol import Symbol

PauseMode = Literal["keep", "wait", "abort"]


class _ModelConfig(Protocol):
    max_model_len: int
    model: str
    revision: str | None
    quantization: str | None
    dtype: Any
    hf_config: Any


class _ParallelConfig(Protocol):
    _api_process_rank: int
    _api_process_count: int


class _LoraConfig(Protocol):
    max_lora_rank: int


class _Config(Protocol):
    model_config: _ModelConfig
    parallel_config: _ParallelConfig
    lora_config: _LoraConfig | None


class _Renderer(Protocol):
    def get_tokenizer(self) -> Any: ...

    async def clear_mm_cache_async(self) -> None: ...


class _Core(Protocol):
    async def call_utility_all_async(self, method: str, *args: Any) -> list[Any]: ...

    async def pause_scheduler_async(self, mode: PauseMode, clear_cache: bool) -> None: ...


class _Detokenizer(Protocol):
    def num_output_tokens(self) -> int: ...


class _RequestState(Protocol):
    detokenizer: _Detokenizer | None
    is_prefilling: bool


class _OutputProcessor(Protocol):
    request_states: dict[str, _RequestState]


class _StatLoggers(Protocol):
    stat_loggers: Sequence[Any]


class _PrometheusLogger(Protocol):
    gauge_lora_info: Any


class EngineClient(Protocol):
    """vLLM's AsyncLLM."""

    vllm_config: _Config
    renderer: _Renderer
    engine_core: _Core
    output_processor: _OutputProcessor
    logger_manager: _StatLoggers | None

    async def add_lora(self, lora_request: Adapter) -> bool: ...

    async def remove_lora(self, lora_id: int) -> bool: ...

    async def resume_generation(self) -> None: ...

    async def get_weight_version(self) -> str: ...

    async def update_weight_version(self, new_version: str) -> None: ...


CLIENT = Symbol("vllm.v1.engine.async_llm", "AsyncLLM", EngineClient)
CORE = Symbol("vllm.v1.engine.core_client", "AsyncMPClient", _Core)
PARALLEL_CORE = Symbol("vllm.v1.engine.core_client", "DPLBAsyncMPClient", _Core)
CONFIG = Symbol("vllm.config.vllm", "VllmConfig", _Config)
MODEL_CONFIG = Symbol("vllm.config.model", "ModelConfig", _ModelConfig)
PARALLEL_CONFIG = Symbol("vllm.config.parallel", "ParallelConfig", _ParallelConfig)
LORA_CONFIG = Symbol("vllm.config.lora", "LoRAConfig", _LoraConfig)
RENDERER = Symbol("vllm.renderers.base", "BaseRenderer", _Renderer)
OUTPUTS = Symbol("vllm.v1.engine.output_processor", "OutputProcessor", _OutputProcessor)
REQUEST_STATE = Symbol("vllm.v1.engine.output_processor", "RequestState", _RequestState)
STAT_LOGGERS = Symbol("vllm.v1.metrics.loggers", "StatLoggerManager", _StatLoggers)
PROMETHEUS = Symbol("vllm.v1.metrics.loggers", "PrometheusStatLogger", _PrometheusLogger)
DETOKENIZER = Symbol("vllm.v1.engine.detokenizer", "IncrementalDetokenizer", _Detokenizer)


async def call_ranks(engine: EngineClient, method: str, *args: object) -> list[list[Any]]:
    """What the workers' method of this name returns, for each engine and each of its ranks.

    vLLM's own collective_rpc returns the answers of the first data-parallel engine only.
    """
    return await engine.engine_core.call_utility_all_async(
        "collective_rpc", method, None, args, None
    )


async def pause(engine: EngineClient, mode: PauseMode) -> None:
    """Halt generation and clear every cache; new requests wait until the engine is resumed.

    Running requests are kept and computed again, finished first, or aborted, by ``mode``.

    AsyncLLM.pause_generation does the same in 0.32, but sleeps 20 ms at its end. In 0.33 it also
    refuses new requests in the modes ``wait`` and ``abort``; pause_scheduler_async does not.
    """
    await engine.renderer.clear_mm_cache_async()
    await engine.engine_core.pause_scheduler_async(mode=mode, clear_cache=True)


def running_requests(engine: EngineClient) -> Mapping[str, int]:
    """The requests of this process that have begun to answer, with the tokens of each so far."""
    return {
        name: state.detokenizer.num_output_tokens()
        for name, state in engine.output_processor.request_states.items()
        if state.detokenizer is not None and not state.is_prefilling
    }


def api_process(engine: EngineClient) -> tuple[int, int]:
    """The number of this API process, and how many the server has; the number of one alone is 0
    or less."""
    parallel = engine.vllm_config.parallel_config
    return parallel._api_process_rank, parallel._api_process_count


def adapter_gauges(engine: EngineClient) -> list[Any]:
    """vLLM's gauges with the names of the adapters that were used together as labels."""
    loggers = engine.logger_manager.stat_loggers if engine.logger_manager else ()
    gauges = (getattr(logger, "gauge_lora_info", None) for logger in loggers)
    return [gauge for gauge in gauges if gauge is not None]


def max_lora_rank(engine: EngineClient) -> int:
    """The largest rank of an adapter; 0 where adapters are not enabled."""
    lora = engine.vllm_config.lora_config
    return lora.max_lora_rank if lora else 0


def max_model_len(engine: EngineClient) -> int:
    """Tokens of context."""
    return engine.vllm_config.model_config.max_model_len


def text_config(engine: EngineClient) -> Mapping[str, Any]:
    """The config of the served model's language part, wherever its files are."""
    config: Mapping[str, Any] = (
        engine.vllm_config.model_config.hf_config.get_text_config().to_dict()
    )
    return config


def tokenizer(engine: EngineClient) -> Any:
    """The Transformers tokenizer of the served model."""
    return engine.renderer.get_tokenizer()
