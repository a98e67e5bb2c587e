"""vLLM's layers, in a worker."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol

from vllm_edit.vllm_interface.symbol import Symbol


class _LoraLayer(Protocol):
    base_layer: Any


LINEAR = Symbol("vllm.model_executor.layers.linear", "LinearBase")
UNQUANTIZED = Symbol("vllm.model_executor.layers.linear", "UnquantizedLinearMethod")
LORA_LAYER = Symbol("vllm.lora.layers", "BaseLayerWithLoRA")


def is_linear(layer: Any) -> bool:
    """Whether it is a linear layer of vLLM's."""
    return isinstance(layer, LINEAR.load())


def is_unquantized(layer: Any) -> bool:
    """Whether it is a linear layer whose weight is not quantised."""
    method = getattr(layer, "quant_method", None)
    return is_linear(layer) and isinstance(method, UNQUANTIZED.load())


@contextmanager
def without_adapters(model: Any) -> Iterator[None]:
    """The model as it was before vLLM wrapped its layers for LoRA adapters."""
    lora_layer = LORA_LAYER.load()
    wrapped = [
        (parent, name, child)
        for parent in list(model.modules())
        for name, child in parent.named_children()
        if isinstance(child, lora_layer)
    ]
    try:
        for parent, name, child in wrapped:
            parent.register_module(name, child.base_layer)
        yield
    finally:
        for parent, name, child in wrapped:
            parent.register_module(name, child)
