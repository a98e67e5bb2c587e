"""Hooks that are always taken off again, and a model that is always left as it was found."""

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
    """Whatever is written to the parameters inside is undone after, bit for bit."""
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
    """Capture what each module is given in the forward pass inside, as [rows, tokens, d].

    The `with` block ends as soon as all modules were called. `rows` is the batch size: some
    models (OPT) flatten batch and tokens into one dimension before their MLP.
    """
    with captured(modules, {}, rows) as (found, _):
        yield found


@contextmanager
def captured(
    given: Mapping[int, nn.Module], made: Mapping[int, nn.Module], rows: int, stop: bool = True
) -> Iterator[tuple[dict[int, Tensor], dict[int, Tensor]]]:
    """Capture the inputs of the modules `given` and the outputs of those `made`, as `inputs` does.

    Of a tuple, as some decoder layers return it, the first entry is meant. With `stop` the block
    ends as soon as all is captured.
    """
    found: tuple[dict[int, Tensor], dict[int, Tensor]] = ({}, {})

    def keep(into: dict[int, Tensor], key: int, value: Any) -> None:
        first = value[0] if isinstance(value, tuple) else value
        into[key] = first.detach().reshape(rows, -1, first.shape[-1])
        if stop and len(found[0]) == len(given) and len(found[1]) == len(made):
            raise _Stop

    with ExitStack() as undo, suppress(_Stop):
        for key, module in given.items():
            hook = partial(_before, keep, found[0], key)
            undo.callback(module.register_forward_pre_hook(hook).remove)
        for key, module in made.items():
            after = partial(_after, keep, found[1], key)
            undo.callback(module.register_forward_hook(after).remove)
        yield found


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
    """Put `change(output)` in the place of the module's output, both [rows, tokens, d].

    Where the module returns a tuple, its first entry is changed. `change` gives a new tensor.
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
def added(module: nn.Module, positions: Tensor, values: Tensor) -> Iterator[None]:
    """Add `values[i]` [d] to the module's output [rows, tokens, d] at (i, positions[i]).

    Where the module returns a tuple, its first entry is changed.
    """
    rows = torch.arange(len(positions), device=positions.device)

    def add(output: Tensor) -> Tensor:
        return output.index_put((rows, positions), values.to(output.dtype), accumulate=True)

    with changed(module, len(rows), add):
        yield
