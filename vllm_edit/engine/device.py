"""The device that a worker serves on, beside its serving."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

import torch


@contextmanager
def beside_serving(device: torch.device) -> Iterator[None]:
    """On CUDA a stream of its own, so that no step of the engine waits for what is done here."""
    if device.type != "cuda":
        yield
        return
    with torch.cuda.stream(_stream(device)):
        yield
        torch.cuda.current_stream(device).synchronize()


@cache
def _stream(device: torch.device) -> torch.cuda.Stream:
    """One for good: each stream keeps the memory that was used on it."""
    return torch.cuda.Stream(device)


def wait_for(device: torch.device) -> None:
    """Let an error on the device show here and not in a later step."""
    if device.type != "cpu":
        torch.accelerator.synchronize(device)
