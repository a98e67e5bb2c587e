"""The models that vLLM's server offers by name, LoRA adapters among them."""

from collections.abc import MutableMapping, Sequence
from typing import Any, Protocol

from vllm_edit.vllm_interface.symbol import Symbol


class BaseModelPath(Protocol):
    """A name of the served base model."""

    name: str
    model_path: str


class Adapter(Protocol):
    """vLLM's LoRARequest: a name, a number and a folder."""

    lora_name: str
    lora_int_id: int
    lora_path: str
    base_model_name: str | None
    load_inplace: bool


class Counter(Protocol):
    """Gives each adapter a number of its own."""

    def inc(self, num: int) -> int: ...


class Registry(Protocol):
    """Where vLLM looks the names of the base model up."""

    base_model_paths: Sequence[BaseModelPath]


class ServedModels(Protocol):
    """vLLM keeps it as ``app.state.openai_serving_models``."""

    registry: Registry
    base_model_paths: Sequence[BaseModelPath]
    lora_requests: MutableMapping[str, Any]
    lora_id_counter: Counter

    async def show_available_models(self) -> Any: ...


SERVED = Symbol("vllm.entrypoints.openai.models.serving", "OpenAIServingModels", ServedModels)
REGISTRY = Symbol("vllm.entrypoints.openai.models.serving", "OpenAIModelRegistry", Registry)
BASE_PATH = Symbol("vllm.entrypoints.openai.models.protocol", "BaseModelPath", BaseModelPath)
ADAPTER = Symbol("vllm.lora.request", "LoRARequest", Adapter)
COUNTER = Symbol("vllm.utils.counter", "AtomicCounter", Counter)


def base_path(name: str, model_path: str) -> BaseModelPath:
    """Another name of the base model at ``model_path``."""
    path: BaseModelPath = BASE_PATH.load()(name=name, model_path=model_path)
    return path


def adapter(name: str, number: int, path: str, base: str, *, in_place: bool = False) -> Adapter:
    """The adapter in the folder ``path``; ``in_place`` loads it over that of the same number."""
    made: Adapter = ADAPTER.load()(
        lora_name=name,
        lora_int_id=number,
        lora_path=path,
        base_model_name=base,
        load_inplace=in_place,
    )
    return made
