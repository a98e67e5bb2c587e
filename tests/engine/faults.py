"""Faults in a worker's part of a swap, injected through vLLM's own --worker-extension-cls."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from vllm_edit.engine.replacement import Replacement
from vllm_edit.engine.worker_weights import ServedWeights


class Faults:
    """Mixed into the workers of a test's engine; each fault happens once, on one rank."""

    def fault_at(self: Any, step: str, rank: int) -> None:
        """The next ``step`` of the rank's ServedWeights raises before it does anything."""
        if _rank(self) == rank:
            _once(_served(self), step, _raise)

    def fault_between_layers(self: Any, rank: int) -> None:
        """The rank's next commit raises when one layer is in place."""
        if _rank(self) != rank:
            return
        served = _served(self)
        commit = served.commit

        def broken(number: int) -> None:
            _once(served._swap.built[1], "exchange", _raise)
            commit(number)

        _once(served, "commit", broken)

    def fault_within_a_layer(self: Any, rank: int) -> None:
        """The rank's next commit raises while it puts its first layer in place."""
        if _rank(self) != rank:
            return
        served = _served(self)
        commit = served.commit

        def broken(number: int) -> None:
            first: Replacement = served._swap.built[0]
            first._made = ["injected"]
            commit(number)

        _once(served, "commit", broken)

    def fault_until(self: Any, step: str, rank: int, path: str) -> None:
        """The next ``step`` of the rank's ServedWeights hangs until there is a file."""
        if _rank(self) != rank:
            return
        served = _served(self)
        do = getattr(served, step)

        def hang(*args: Any) -> Any:
            while not Path(path).exists():
                time.sleep(0.01)
            return do(*args)

        _once(served, step, hang)

    def fault_in_reply(self: Any, step: str, rank: int) -> None:
        """The rank does its next ``step``, and the reply to it is lost."""
        if _rank(self) == rank:
            done = getattr(self, step)

            def lost(*args: Any) -> None:
                done(*args)
                _raise()

            _once(self, step, lost)


def _rank(worker: Any) -> int:
    engine: int = worker.parallel_config.data_parallel_index
    size: int = worker.parallel_config.world_size
    return engine * size + int(worker.rank)


def _served(worker: Any) -> Any:
    worker.edit_weights = getattr(worker, "edit_weights", None) or ServedWeights(
        worker.model_runner
    )
    return worker.edit_weights


def _once(owner: Any, name: str, replacement: Callable[..., Any]) -> None:
    def broken(*args: Any) -> Any:
        delattr(owner, name)
        return replacement(*args)

    setattr(owner, name, broken)


def _raise(*_: Any) -> None:
    raise OSError("injected")
