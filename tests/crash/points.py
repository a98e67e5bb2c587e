"""Named points in the life of an edit, at which a server under test is made to fail.

Each wraps a public name of the product or of its libraries, from outside: the server program of
these tests does it before it starts the server, and the processes that this forks inherit it.
"""

import functools
import inspect
import itertools
import os
import resource
import signal
import sqlite3
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

Happened = Callable[[], None]


@dataclass(frozen=True)
class Failure:
    """What happens at which passing of a point: ``kill`` to the process group, ``fill`` the disk,
    or ``refuse`` what is about to be done, once."""

    point: str
    passing: int = 1
    action: str = "kill"

    def __str__(self) -> str:
        return f"{self.action} at {self.point}, passing {self.passing}"


def arm(failure: Failure) -> None:
    """Let it happen in this process or in one that it forks, each counting for itself."""
    passings = itertools.count(1)

    def happened() -> None:
        if next(passings) == failure.passing:
            _ACTIONS[failure.action]()

    _POINTS[failure.point](happened)


def _kill() -> None:
    os.killpg(os.getpgrp(), signal.SIGKILL)


def _fill() -> None:
    """From now on no file takes another byte from this process, as on a full disk."""
    _, most = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, most))


def _refuse() -> None:
    from sqlalchemy.exc import OperationalError

    raise OperationalError("COMMIT", None, sqlite3.OperationalError("injected"))


def _appending(happened: Happened) -> None:
    """The rows of a change are inserted, and not committed."""
    from sqlalchemy import Engine, event

    event.listen(Engine, "commit", lambda _: happened())


def _appended(happened: Happened) -> None:
    """A change is in the log, and has had no effect."""
    from vllm_edit.ledger import Log

    _after(Log, "append", happened)


def _computed(happened: Happened) -> None:
    """A delta is in its file, and nobody knows yet."""
    from vllm_edit.editor.client import EditorClient

    _after(EditorClient, "compute", happened)


def _staging(happened: Happened) -> None:
    """A worker has built one of the tensors of a swap."""
    from weight_patchers.delta_sum import DeltaSum

    _after(DeltaSum, "added_to", happened)


def _committing(happened: Happened) -> None:
    """A worker serves one of the new weights of a swap."""
    from vllm_edit.engine.replacement import Replacement

    _after(Replacement, "exchange", happened)


def _committed(happened: Happened) -> None:
    """Every worker serves the new weights, and the log does not say so yet."""
    from vllm_edit.weights.method import WeightMethod

    _after(WeightMethod, "apply", happened)


def _answering(happened: Happened) -> None:
    """A change is in effect and in the log, and the client is about to hear of it."""
    from vllm_edit.service.service import EditService

    for change in ("submit", "roll_back", "change_set"):
        _after(EditService, change, happened)


_POINTS: Mapping[str, Callable[[Happened], None]] = MappingProxyType(
    {
        "appending": _appending,
        "appended": _appended,
        "computed": _computed,
        "staging": _staging,
        "committing": _committing,
        "committed": _committed,
        "answering": _answering,
    }
)

POINTS = tuple(_POINTS)

_ACTIONS: Mapping[str, Callable[[], None]] = MappingProxyType(
    {"kill": _kill, "fill": _fill, "refuse": _refuse}
)


def _after(owner: type, name: str, happened: Happened) -> None:
    """Call ``happened`` whenever this method has returned."""
    original = getattr(owner, name)

    @functools.wraps(original)
    def watched(*args: Any, **kwargs: Any) -> Any:
        result = original(*args, **kwargs)
        happened()
        return result

    @functools.wraps(original)
    async def awaited(*args: Any, **kwargs: Any) -> Any:
        result = await original(*args, **kwargs)
        happened()
        return result

    setattr(owner, name, awaited if inspect.iscoroutinefunction(original) else watched)
