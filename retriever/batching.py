"""Batches the calls that many threads make to a model, and caches the answers."""

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import Future
from typing import Generic, TypeVar

Key = TypeVar("Key", bound=Hashable)
Answer = TypeVar("Answer")


class Batched(Generic[Key, Answer]):
    """Calls `answer` in batches and keeps the most recent `size` answers. Thread-safe.

    Calls that arrive while a batch is being answered form the next batch together; an error
    of `answer` is raised in all calls that wait for that batch.
    """

    def __init__(self, answer: Callable[[list[Key]], Sequence[Answer]], size: int) -> None:
        self._answer = answer
        self._size = size
        self._kept: OrderedDict[Key, Future[Answer]] = OrderedDict()
        self._waiting: dict[Key, Future[Answer]] = {}
        self._state = threading.Lock()
        self._answering = threading.Lock()

    def __len__(self) -> int:
        """Answers kept."""
        return len(self._kept)

    def ask(self, keys: Sequence[Key]) -> list[Answer]:
        """The answer for each key, in their order."""
        with self._state:
            futures = [self._find(key) for key in keys]
        if not all(future.done() for future in futures):
            with self._answering:
                # The lock's previous holder may have answered these keys in its batch.
                if not all(future.done() for future in futures):
                    self._answer_waiting()
        return [future.result() for future in futures]

    def _find(self, key: Key) -> Future[Answer]:
        if key in self._kept:
            self._kept.move_to_end(key)
            return self._kept[key]
        return self._waiting.setdefault(key, Future())

    def _answer_waiting(self) -> None:
        with self._state:
            batch, self._waiting = self._waiting, {}
        try:
            answers = self._answer(list(batch))
        except BaseException as error:
            for future in batch.values():
                future.set_exception(error)
            raise
        with self._state:
            for (key, future), answer in zip(batch.items(), answers, strict=True):
                future.set_result(answer)
                self._kept[key] = future
            while len(self._kept) > self._size:
                self._kept.popitem(last=False)
