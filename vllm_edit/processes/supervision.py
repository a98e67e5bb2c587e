"""Tasks in the background: no error ends one unseen."""

import asyncio
import logging
from collections.abc import Awaitable, Callable

from prometheus_client import Counter

from vllm_edit.domain.errors import EditError

logger = logging.getLogger(__name__)

FAULTS = Counter(
    "vllm_edit_background_faults",
    "Errors that tasks in the background met, by task; the tasks went on",
    ["task"],
)

RESTART_SECONDS = 1.0
"""A task that failed rests so long, so that one that fails each time does no harm."""


def supervised(task: str, work: Callable[[], Awaitable[None]]) -> "asyncio.Task[None]":
    """A task that runs ``work`` until it returns or is cancelled, again after each error.

    Each error is logged and counted under the name ``task``.
    """
    return asyncio.create_task(_again_and_again(task, work), name=task)


def in_background(task: str, work: Callable[[], Awaitable[None]]) -> "asyncio.Task[None]":
    """A task that runs ``work`` once; an error ends it, and is logged and counted."""
    return asyncio.create_task(_once(task, work), name=task)


def report_fault(task: str, error: Exception) -> None:
    """Log and count an error that a task in the background met."""
    if isinstance(error, EditError):
        logger.warning("In the background (%s): %s", task, error.message)
    else:
        logger.error("Something unforeseen failed in the background (%s).", task, exc_info=error)
    FAULTS.labels(task).inc()


async def _again_and_again(task: str, work: Callable[[], Awaitable[None]]) -> None:
    while True:
        if await _succeeds(task, work):
            return
        await asyncio.sleep(RESTART_SECONDS)


async def _once(task: str, work: Callable[[], Awaitable[None]]) -> None:
    await _succeeds(task, work)


async def _succeeds(task: str, work: Callable[[], Awaitable[None]]) -> bool:
    try:
        await work()
    except Exception as error:  # noqa: BLE001 - whatever it is, it must not be lost with the task
        report_fault(task, error)
        return False
    return True
