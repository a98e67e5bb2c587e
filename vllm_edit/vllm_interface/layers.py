"""vLLM's layers, in a worker."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol

from vllm_edit.vllm_interface.symbol import Symbol

if TYPE_CHECKING:
    from torch import Tensor, dtype
    from torch.nn import Module


class _LinearMethod(Protocol):
    def create_weights(
        self,
        layer: "Module",
        input_size_per_partition: int,
        output_partition_sizes: Sequence[int],
        input_size: int,
        output_size: int,
        params_dtype: "dtype",
        **extra_weight_attrs: Any,
    ) -> None: ...

    def process_weights_after_loading(self, layer: "Module") -> None: ...

    def apply(self, layer: "Module", x: "Tensor", bias: "Tensor | None") -> "Tensor": ...


class _Linear(Protocol):
    quant_method: _LinearMethod
    input_size: int
    output_size: int
    params_dtype: "dtype"
    tp_rank: int
    tp_size: int


class _SlicedLinear(Protocol):
    input_size_per_partition: int
    output_partition_sizes: Sequence[int]

    def weight_loader_v2(self, param: Any, loaded_weight: "Tensor") -> None: ...


class _SummingLinear(_SlicedLinear, Protocol):
    reduce_results: bool


class _LoadedLinear(Protocol):
    output_partition_sizes: Sequence[int]

    def weight_loader(self, param: Any, loaded_weight: "Tensor") -> None: ...


class _LoraLayer(Protocol):
    base_layer: Any


class _HasPackedModules(Protocol):
    packed_modules_mapping: Mapping[str, Sequence[str]]


_LINEAR = "vllm.model_executor.layers.linear"

LINEAR = Symbol(_LINEAR, "LinearBase", _Linear)
REPLICATED = Symbol(_LINEAR, "ReplicatedLinear", _LoadedLinear)
COLUMNS = Symbol(_LINEAR, "ColumnParallelLinear", _SlicedLinear)
ROWS = Symbol(_LINEAR, "RowParallelLinear", _SummingLinear)
UNQUANTIZED = Symbol(_LINEAR, "UnquantizedLinearMethod", _LinearMethod)
LORA_LAYER = Symbol("vllm.lora.layers", "BaseLayerWithLoRA")
LORA_LINEAR = Symbol("vllm.lora.layers.base_linear", "BaseLinearLayerWithLoRA", _LoraLayer)
LORA_MODEL = Symbol("vllm.model_executor.models.interfaces", "SupportsLoRA", _HasPackedModules)


def is_linear(layer: Any) -> bool:
    """Whether it is a linear layer of vLLM's."""
    return isinstance(layer, LINEAR.load())


def is_unquantized(layer: Any) -> bool:
    """Whether it is a linear layer whose weight is not quantised."""
    method = getattr(layer, "quant_method", None)
    return is_linear(layer) and isinstance(method, UNQUANTIZED.load())


def input_width(layer: Any) -> int:
    """Columns of this rank's weight of a linear layer."""
    width: int = getattr(layer, "input_size_per_partition", layer.input_size)
    return width


def adds_once(layer: Any) -> bool:
    """Whether what this rank adds to the output of a linear layer is in the sum of all ranks once.

    It is, on every rank, where the layer sums over the ranks itself. Where the model does so later,
    it is only on the first.
    """
    return bool(getattr(layer, "reduce_results", True) or layer.tp_rank == 0)


def is_packed(layer: Any) -> bool:
    """Whether vLLM keeps a layer's weight in a form of its kernel's only, as it does on CPU."""
    return bool(layer.weight.numel() == 0)


def empty_weight(layer: Any) -> tuple[Any, Any]:
    """Another weight for a linear layer, on this rank, with arbitrary values; and its loader.

    The loader takes the weight, a tensor of the checkpoint or a part of it, and what else vLLM
    gave when it loaded the layer.
    """
    from torch.nn import Module

    holder: Any = Module()
    loader = getattr(layer, "weight_loader_v2", layer.weight_loader)
    layer.quant_method.create_weights(
        holder,
        input_width(layer),
        layer.output_partition_sizes,
        layer.input_size,
        layer.output_size,
        layer.params_dtype,
        weight_loader=loader,
    )
    holder.weight.tp_rank, holder.weight.tp_size = layer.tp_rank, layer.tp_size
    return holder.weight, loader


def prepared(layer: Any, weight: "Tensor") -> tuple[Any, Sequence[str]]:
    """A module that holds a weight as the layer's kernel takes it, with the layer's method.

    Also the names of the attributes that vLLM made of the weight besides.
    """
    from torch.nn import Module, Parameter

    spare: Any = Module()
    spare.quant_method = layer.quant_method
    spare.weight = Parameter(weight.to(layer.weight.device), requires_grad=False)
    if getattr(layer, "_cpu_skip_gemm_dispatch", False):
        spare._cpu_skip_gemm_dispatch = True
    known = set(vars(spare))
    layer.quant_method.process_weights_after_loading(spare)
    return spare, sorted(set(vars(spare)) - known)


def apply(layer: Any, inputs: "Tensor") -> "Tensor":
    """The layer's product with inputs [n, width], without its bias."""
    outputs: Tensor = layer.quant_method.apply(layer, inputs, bias=None)
    return outputs


def fused_layers(model: Any) -> Sequence[Sequence[str]]:
    """The layers of a checkpoint that vLLM joins into one, such as q, k and v, by last name."""
    return list(getattr(model, "packed_modules_mapping", {}).values())


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
