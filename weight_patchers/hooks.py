"""Hooks that are always taken off again, and a model that is always left as it was found."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

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
    captured: dict[int, Tensor] = {}
    handles = []

    def hook(key: int) -> Callable[[nn.Module, tuple[Tensor, ...]], None]:
        def save(_module: nn.Module, args: tuple[Tensor, ...]) -> None:
            captured[key] = args[0].detach().reshape(rows, -1, args[0].shape[-1])
            if len(captured) == len(modules):
                raise _Stop

        return save

    try:
        for key, module in modules.items():
            handles.append(module.register_forward_pre_hook(hook(key)))
        yield captured
    except _Stop:
        pass
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def added(module: nn.Module, positions: Tensor, value: Tensor) -> Iterator[None]:
    """Add `value` [d] to the module's output [rows, tokens, d] at (i, positions[i]), each row i."""
    rows = torch.arange(len(positions), device=positions.device)

    def add(_module: nn.Module, _args: tuple[Tensor, ...], output: Tensor) -> Tensor:
        shaped = output.reshape(len(rows), -1, output.shape[-1])
        change = value.to(output.dtype).expand(len(rows), -1)
        return shaped.index_put((rows, positions), change, accumulate=True).reshape(output.shape)

    handle = module.register_forward_hook(add)
    try:
        yield
    finally:
        handle.remove()
