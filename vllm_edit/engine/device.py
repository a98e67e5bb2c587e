"""The device that a worker serves on, beside its serving."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def beside_serving(device: torch.device) -> Iterator[None]:
    """On CUDA a stream of its own, so that no step of the engine waits for what is done here."""
    if device.type != "cuda":
        yield
        return
    stream = torch.cuda.Stream(device)
    with torch.cuda.stream(stream):
        yield
        stream.synchronize()


def wait_for_device() -> None:
    """Let an error on the device show here and not in a later step."""
    if torch.accelerator.is_available():
        torch.accelerator.synchronize()
