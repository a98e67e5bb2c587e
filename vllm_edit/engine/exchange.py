"""Values beside those that are served, ready to change places with them."""

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Iterable
from enum import Enum, auto

import torch

from vllm_edit.domain.errors import SwapFailed

ROWS = 256
"""How much is moved or hashed at once."""


class Exchange(ABC):
    """Values for one module of the model, beside those that it serves.

    ``exchange`` makes them change places; called again, it undoes this.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self._state = _State.ASIDE

    def exchange(self) -> None:
        """Serve the other values from now on."""
        after = _State.ASIDE if self._state is _State.SERVED else _State.SERVED
        self._state = _State.HALF_DONE
        self._change_places()
        self._state = after

    def undo(self) -> None:
        """Serve again what was served before; raises SwapFailed unless it is that, by checksum."""
        if self._state is _State.ASIDE:
            return
        if self._state is _State.HALF_DONE:
            raise SwapFailed(f"{self.name} was left half-written.")
        before = self._digest_aside()
        self.exchange()
        if self._digest_served() != before:
            raise SwapFailed(f"{self.name} is not what it was.")

    @abstractmethod
    def _change_places(self) -> None: ...

    @abstractmethod
    def _digest_aside(self) -> str:
        """Of what was served before, while it is aside."""

    @abstractmethod
    def _digest_served(self) -> str: ...


class _State(Enum):
    """Where the values of an exchange are."""

    ASIDE = auto()
    HALF_DONE = auto()
    SERVED = auto()


def change_places(one: torch.Tensor, other: torch.Tensor) -> None:
    """Exchange the values of two tensors of one shape, each of which keeps its storage."""
    for part, opposite in zip(one.split(ROWS), other.split(ROWS), strict=True):
        kept = part.clone()
        part.copy_(opposite)
        opposite.copy_(kept)


def digest_of(tensors: Iterable[torch.Tensor]) -> str:
    """SHA-256 of the values of tensors."""
    found = hashlib.sha256()
    for tensor in tensors:
        found.update(tensor.contiguous().cpu().view(torch.uint8).numpy().data)
    return found.hexdigest()
