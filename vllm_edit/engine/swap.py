"""The front side of a swap: every worker serves base plus the live deltas, or nothing changes."""

import logging
from collections.abc import Awaitable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, Literal

from vllm_edit.engine.payload import Update, join, pack
from vllm_edit.errors import SwapFailed
from weight_patchers import Change, Delta, Dense

if TYPE_CHECKING:
    from vllm.engine.protocol import EngineClient

PauseMode = Literal["keep", "wait", "abort"]

logger = logging.getLogger(__name__)


class Swapper:
    """Drives the workers' two phases: stage while serving, then commit in a short pause.

    Not safe for concurrent swaps: the caller holds a lock. After a swap that raised, the engine
    serves what it served before.
    """

    def __init__(self, engine: "EngineClient", pause_mode: PauseMode) -> None:
        self._engine = engine
        self._pause_mode = pause_mode
        self._served: dict[str, Update] = {}
        self._number = 0

    async def serve(self, deltas: Sequence[Delta], weight_version: str) -> None:
        """Swap to exactly these live deltas and name the weights ``weight_version``.

        Running requests are preempted and recomputed, finished or aborted as the pause mode
        says; every KV cache is cleared, so no answer mixes weights.

        Raises:
            SwapFailed: a worker refused; what was served before is served again.
        """
        wanted = _sum(deltas, touched=self._served)
        await self._stage(wanted)
        await _checked(self._engine.pause_generation(mode=self._pause_mode, clear_cache=True))
        try:
            await self._commit_or_restore(wanted, weight_version)
        finally:
            await self._engine.resume_generation()
        self._served = wanted

    async def _commit_or_restore(self, wanted: dict[str, Update], weight_version: str) -> None:
        try:
            await self._on_every_rank("edit_commit", self._number)
            await _checked(self._engine.update_weight_version(weight_version))
        except SwapFailed:
            logger.warning("A commit failed; restoring the weights served before it.")
            await self._stage(_sum((), touched=wanted) | self._served)
            await self._on_every_rank("edit_commit", self._number)
            raise

    async def _stage(self, updates: dict[str, Update]) -> None:
        self._number += 1
        await self._on_every_rank("edit_stage", self._number, pack(updates))

    async def _on_every_rank(self, method: str, *args: object) -> None:
        faults = await _checked(self._engine.collective_rpc(method, args=args))
        if found := sorted({fault for fault in faults if fault}):
            raise SwapFailed(f"The engine refused the edited weights: {' '.join(found)}")


async def _checked(call: Awaitable[Any]) -> Any:
    """Await a call to the engine; raises SwapFailed for whatever it raises.

    vLLM hands errors of its processes on as bare Exceptions, so nothing narrower can be named.
    """
    try:
        return await call
    except Exception as error:
        raise SwapFailed(f"The engine could not be reached for a swap: {error}") from error


def _sum(deltas: Sequence[Delta], touched: Iterable[str]) -> dict[str, Update]:
    """The joined update of each parameter; one touched before and not now becomes pristine."""
    parts: dict[str, list[Update]] = {name: [] for name in touched}
    for delta in deltas:
        for name, change in delta.changes.items():
            parts.setdefault(name, []).append(_update(change))
    return {name: join(found) for name, found in parts.items()}


def _update(change: Change) -> Update:
    """The change in the orientation of the checkpoint."""
    if isinstance(change, Dense):
        return Update.of_dense(change.update.T if change.transposed else change.update)
    sides = (change.v, change.u) if change.transposed else (change.u, change.v)
    return Update(*sides)
