"""Hooks that are always removed again, and contexts that restore a model."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn


@contextmanager
def frozen(model: nn.Module) -> Iterator[None]:
    """Evaluation mode and no parameter gradients inside; the model's own settings after.

    Restores each module's train/eval mode and each parameter's requires_grad and grad.
    """
    modes = [(module, module.training) for module in model.modules()]
    parameters = [(p, p.requires_grad) for p in model.parameters()]
    try:
        model.eval()
        for parameter, _ in parameters:
            parameter.requires_grad_(False)
        yield
    finally:
        for module, training in modes:
            module.training = training
        for parameter, requires_grad in parameters:
            parameter.requires_grad_(requires_grad)


@contextmanager
def restored(parameters: Sequence[Tensor]) -> Iterator[None]:
    """Restores the parameters afterwards, bit for bit."""
    kept = [parameter.detach().clone() for parameter in parameters]
    try:
        yield
    finally:
        with torch.no_grad():
            for parameter, original in zip(parameters, kept, strict=True):
                parameter.copy_(original)


class _Stop(Exception):
    """Ends a forward pass early; never leaves this module."""


@contextmanager
def inputs(modules: Mapping[int, nn.Module], rows: int) -> Iterator[dict[int, Tensor]]:
    """Capture each module's input in the forward pass inside, as [rows, tokens, d].

    The `with` block ends as soon as all modules were called. `rows` is the batch size: some
    models (OPT) flatten batch and tokens into one dimension before their MLP.
    """
    with captured(modules, {}, rows) as (module_inputs, _):
        yield module_inputs


@contextmanager
def captured(
    inputs_of: Mapping[int, nn.Module],
    outputs_of: Mapping[int, nn.Module],
    rows: int,
    stop: bool = True,
) -> Iterator[tuple[dict[int, Tensor], dict[int, Tensor]]]:
    """Capture the inputs of the modules `inputs_of` and the outputs of the modules `outputs_of`.

    Shapes are as for `inputs`. If a value is a tuple, its first entry is captured. With `stop` the
    block ends as soon as all are captured.
    """
    tensors: tuple[dict[int, Tensor], dict[int, Tensor]] = ({}, {})

    def keep(into: dict[int, Tensor], key: int, value: Any) -> None:
        first = value[0] if isinstance(value, tuple) else value
        into[key] = first.detach().reshape(rows, -1, first.shape[-1])
        if stop and len(tensors[0]) == len(inputs_of) and len(tensors[1]) == len(outputs_of):
            raise _Stop

    with ExitStack() as undo, suppress(_Stop):
        for key, module in inputs_of.items():
            input_hook = partial(_before, keep, tensors[0], key)
            undo.callback(module.register_forward_pre_hook(input_hook).remove)
        for key, module in outputs_of.items():
            output_hook = partial(_after, keep, tensors[1], key)
            undo.callback(module.register_forward_hook(output_hook).remove)
        yield tensors


_Keep = Callable[[dict[int, Tensor], int, Any], None]


def _before(
    keep: _Keep, into: dict[int, Tensor], key: int, _module: nn.Module, args: tuple[Any, ...]
) -> None:
    keep(into, key, args)


def _after(
    keep: _Keep,
    into: dict[int, Tensor],
    key: int,
    _module: nn.Module,
    _args: tuple[Any, ...],
    output: Any,
) -> None:
    keep(into, key, output)


@contextmanager
def changed(module: nn.Module, rows: int, change: Callable[[Tensor], Tensor]) -> Iterator[None]:
    """Replace the module's output by `change(output)`, both [rows, tokens, d].

    If the module returns a tuple, its first entry is changed. `change` returns a new tensor.
    """

    def hook(_module: nn.Module, _args: tuple[Any, ...], output: Any) -> Any:
        first = output[0] if isinstance(output, tuple) else output
        new = change(first.reshape(rows, -1, first.shape[-1])).reshape(first.shape)
        return (new, *output[1:]) if isinstance(output, tuple) else new

    handle = module.register_forward_hook(hook)
    try:
        yield
    finally:
        handle.remove()


@contextmanager
def given(module: nn.Module, values: Tensor) -> Iterator[None]:
    """Replace the module's input by `values`, of as many entries."""

    def replace(_module: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...]:
        return (values.reshape(args[0].shape), *args[1:])

    handle = module.register_forward_pre_hook(replace)
    try:
        yield
    finally:
        handle.remove()


@contextmanager
def added(module: nn.Module, positions: Tensor, values: Tensor) -> Iterator[None]:
    """Add `values[i]` [d] to the module's output [rows, tokens, d] at (i, positions[i]).

    Where the module returns a tuple, its first entry is changed.
    """
    rows = torch.arange(len(positions), device=positions.device)

    def add(output: Tensor) -> Tensor:
        return output.index_put((rows, positions), values.to(output.dtype), accumulate=True)

    with changed(module, len(rows), add):
        yield
