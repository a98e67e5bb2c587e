"""The edited tensors of one worker: pristine base plus the live updates."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from vllm_edit.engine.checkpoint import Checkpoint, resolve
from vllm_edit.engine.payload import Update, unpack
from vllm_edit.errors import SwapFailed


class ServedWeights:
    """Builds and writes the tensors that one vLLM worker serves.

    W = cast(pristine + Σ live updates), summed in float32 and cast once, so what is served
    depends on the set of live edits and not on the way to it. Nothing is served before
    ``commit``; a stage that fails leaves the worker as it was.
    """

    def __init__(self, model_runner: Any) -> None:
        self._runner = model_runner
        config = model_runner.vllm_config.model_config
        if config.quantization is not None:
            raise SwapFailed(
                f"The served base is quantised ({config.quantization}); weight edits need an "
                "unquantised one. Use a memory method such as ike."
            )
        self._checkpoint = Checkpoint(resolve(config.model, config.revision))
        self._pristine: dict[str, torch.Tensor] = {}
        self._staged: tuple[int, dict[str, torch.Tensor]] | None = None

    def stage(self, number: int, data: bytes) -> None:
        """Build the tensors of swap ``number``.

        Raises:
            SwapFailed: a delta does not fit the base or makes values that are not finite.
            Unavailable: the base has no such tensor.
        """
        self._staged = None
        tensors = {name: self._patched(name, update) for name, update in unpack(data).items()}
        self._staged = (number, tensors)

    def commit(self, number: int) -> None:
        """Serve what was staged under ``number``; raises SwapFailed if that is something else."""
        if self._staged is None or self._staged[0] != number:
            raise SwapFailed(f"Swap {number} was not staged on this worker.")
        tensors = self._staged[1]
        self._staged = None
        with _quiet("vllm.model_executor.model_loader.reload"):
            self._runner.reload_weights(weights_iterator=iter(tensors.items()))

    def _patched(self, name: str, update: Update) -> torch.Tensor:
        base = self._pristine.get(name)
        if base is None:
            base = self._pristine[name] = self._checkpoint.tensor(name)
        if update.is_pristine:
            return base
        if update.shape != base.shape:
            raise SwapFailed(
                f"The delta of {name} is {update.shape} but the base tensor is "
                f"{tuple(base.shape)}; it was computed for another model."
            )
        patched = update.added_to(base)
        if not torch.isfinite(patched).all():
            raise SwapFailed(f"The edited {name} has values that are not finite.")
        return patched


@contextmanager
def _quiet(logger_name: str) -> Iterator[None]:
    """Silence vLLM's warnings about the layers that a partial reload leaves as they are."""
    logger = logging.getLogger(logger_name)
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)
