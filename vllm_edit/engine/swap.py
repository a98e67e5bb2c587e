"""The front side of a swap: every worker serves base plus the live deltas, or nothing changes."""

import logging
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Literal

from vllm_edit.engine.payload import Factors, join, pack
from vllm_edit.errors import SwapFailed

if TYPE_CHECKING:
    from vllm.engine.protocol import EngineClient

    from weight_patchers import Delta

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
        self._served: dict[str, Factors] = {}
        self._number = 0

    async def serve(self, deltas: Sequence["Delta"], weight_version: str) -> None:
        """Swap to exactly these live deltas and name the weights ``weight_version``.

        Running requests are preempted and recomputed, finished or aborted as the pause mode
        says; every KV cache is cleared, so no answer mixes weights.

        Raises:
            SwapFailed: a worker refused; what was served before is served again.
        """
        wanted = _sum(deltas, touched=self._served)
        await self._stage(wanted)
        await self._engine.pause_generation(mode=self._pause_mode, clear_cache=True)
        try:
            await self._commit_or_restore(wanted)
            await self._engine.update_weight_version(weight_version)
        finally:
            await self._engine.resume_generation()
        self._served = wanted

    async def _stage(self, factors: dict[str, Factors]) -> None:
        self._number += 1
        try:
            await self._engine.collective_rpc("edit_stage", args=(self._number, pack(factors)))
        except Exception as error:  # vLLM re-raises a worker's error as bare Exception
            raise SwapFailed(f"The engine refused the edited weights: {error}") from error

    async def _commit_or_restore(self, wanted: dict[str, Factors]) -> None:
        try:
            await self._engine.collective_rpc("edit_commit", args=(self._number,))
        except Exception as error:  # vLLM re-raises a worker's error as bare Exception
            logger.warning("A commit failed; restoring the weights served before it.")
            await self._stage(_sum((), touched=wanted) | self._served)
            await self._engine.collective_rpc("edit_commit", args=(self._number,))
            raise SwapFailed(
                f"The engine failed to write the edited weights ({error}); "
                "it serves what it served before."
            ) from error


def _sum(deltas: Sequence["Delta"], touched: Iterable[str]) -> dict[str, Factors]:
    """Joined factors per parameter; a parameter touched before and not now gets rank 0."""
    parts: dict[str, list[Factors]] = {name: [] for name in touched}
    for delta in deltas:
        for name, factor in delta.factors.items():
            sides = (factor.v, factor.u) if factor.transposed else (factor.u, factor.v)
            parts.setdefault(name, []).append(Factors(*sides))
    return {name: join(found) for name, found in parts.items()}
