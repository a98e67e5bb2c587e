"""What the benchmarks take from vLLM: its load generator, and an engine without a server."""

from collections.abc import AsyncIterator, Sequence
from typing import Any, Protocol

from vllm_edit.vllm_interface.engine import CLIENT
from vllm_edit.vllm_interface.symbol import Symbol


class _TaskType(Protocol):
    GENERATION: Any


class _Benchmark(Protocol):
    async def __call__(
        self,
        *,
        task_type: Any,
        endpoint_type: str,
        api_url: str,
        base_url: str,
        model_id: str,
        model_name: str,
        tokenizer: Any,
        input_requests: Sequence[Any],
        logprobs: int | None,
        request_rate: float,
        burstiness: float,
        disable_tqdm: bool,
        num_warmups: int,
        profile: bool,
        selected_percentile_metrics: Sequence[str],
        selected_percentiles: Sequence[float],
        ignore_eos: bool,
        goodput_config_dict: dict[str, float],
        max_concurrency: int | None,
        lora_modules: Sequence[str],
        lora_assignment: str,
        extra_headers: dict[str, str] | None,
        extra_body: dict[str, Any],
        ready_check_timeout_sec: int,
    ) -> dict[str, Any]: ...


class _SampleRequest(Protocol):
    prompt: str
    prompt_len: int
    expected_output_len: int


class _EngineArgs(Protocol):
    model: str
    dtype: str
    enforce_eager: bool
    max_model_len: int
    max_num_batched_tokens: int
    kv_cache_memory_bytes: int
    tensor_parallel_size: int
    worker_extension_cls: str


class _SamplingParams(Protocol):
    temperature: float
    max_tokens: int
    ignore_eos: bool


class OfflineEngine(Protocol):
    """vLLM's AsyncLLM, without a server in front."""

    async def collective_rpc(self, method: str) -> list[Any]: ...

    def generate(
        self, prompt: str, sampling_params: Any, request_id: str
    ) -> AsyncIterator[Any]: ...

    def shutdown(self) -> None: ...

    def from_engine_args(self, engine_args: Any) -> Any: ...


BENCHMARK = Symbol("vllm.benchmarks.serve", "benchmark", _Benchmark)
TASK_TYPE = Symbol("vllm.benchmarks.serve", "TaskType", _TaskType)
FREEZE_HEAP = Symbol("vllm.utils.gc_utils", "freeze_gc_heap")
SAMPLE_REQUEST = Symbol("vllm.benchmarks.datasets", "SampleRequest", _SampleRequest)
GET_TOKENIZER = Symbol("vllm.tokenizers", "get_tokenizer")
ENGINE_ARGS = Symbol("vllm.engine.arg_utils", "AsyncEngineArgs", _EngineArgs)
SAMPLING_PARAMS = Symbol("vllm.sampling_params", "SamplingParams", _SamplingParams)
OFFLINE_ENGINE = Symbol(CLIENT.module, CLIENT.name, OfflineEngine)


def freeze_heap() -> None:
    """Leave what lives now out of later garbage collections, as ``vllm bench serve`` does."""
    FREEZE_HEAP.load()()


async def benchmark_completions(**options: Any) -> dict[str, Any]:
    """Run ``vllm bench serve`` with these options of its function, for a generating model."""
    generation = TASK_TYPE.load().GENERATION
    result: dict[str, Any] = await BENCHMARK.load()(task_type=generation, **options)
    return result


def sample_request(prompt: str, prompt_len: int, output_len: int) -> Any:
    """A request for the load generator; the lengths are in tokens."""
    return SAMPLE_REQUEST.load()(
        prompt=prompt, prompt_len=prompt_len, expected_output_len=output_len
    )


def load_tokenizer(name: str) -> Any:
    """The tokenizer of a model, as the load generator takes it."""
    return GET_TOKENIZER.load()(name)


def start_engine(**arguments: Any) -> Any:
    """An engine in processes of its own, driven from this one."""
    return OFFLINE_ENGINE.load().from_engine_args(ENGINE_ARGS.load()(**arguments))


def sampling(**parameters: Any) -> Any:
    """The sampling parameters of a request to such an engine."""
    return SAMPLING_PARAMS.load()(**parameters)
