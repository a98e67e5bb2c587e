"""The front side of a swap: every worker serves base plus the live deltas, or nothing changes."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from vllm_edit.domain.errors import SwapFailed
from vllm_edit.engine.metrics import SWAPPING
from vllm_edit.engine.pace import Pace
from vllm_edit.engine.payload import chunks, live_sums, pack
from vllm_edit.engine.ranks import Ranks
from vllm_edit.engine.step_reply import Reply
from vllm_edit.vllm_interface.engine import PauseMode
from weight_patchers import Delta
from weight_patchers.delta_sum import DeltaSum

__all__ = ["Meanwhile", "PauseMode", "Swapper", "Timing"]

STOPPED = "serving_stopped"
"""Code of the error after which the engine stays paused."""

_POLL_SECONDS = (0.005, 0.1)
"""First and longest wait before ranks that build large weights are asked again."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Timing:
    """When a swap began to be staged, paused the engine and resumed it, by perf_counter."""

    staged: float
    paused: float
    resumed: float


class Meanwhile(Protocol):
    """What else takes effect in the pause of a swap, or is taken back in it."""

    async def do(self) -> None:
        """Raises SwapFailed if it cannot be done."""

    async def undo(self) -> None:
        """Take back what was done of it; raises SwapFailed if it cannot be."""


class _Nothing:
    async def do(self) -> None:
        pass

    undo = do


class Swapper:
    """Drives the workers' two phases: stage while serving, then commit in a short pause.

    Swaps run one at a time and to their end, even if the caller is cancelled. After one that
    raised, every rank serves what it served before, by checksum. Where that cannot be verified,
    the engine stays paused: no request is answered, this swap and every later one raise
    SwapFailed with the code ``serving_stopped``, and ``stopped`` says why. The server must then
    be started again, which replays the edits. ``timing`` is that of the latest swap.
    """

    def __init__(
        self,
        engine: Any,
        pause_mode: PauseMode,
        fingerprint: str | None = None,
        pace: Pace | None = None,
    ) -> None:
        self._ranks = Ranks(engine)
        self._pause_mode = pause_mode
        self._fingerprint = fingerprint
        self._pace = pace
        self._live: frozenset[str] = frozenset()
        self._served: tuple[Delta, ...] = ()
        self._version = ""
        self._number = 0
        self._lock = asyncio.Lock()
        self.stopped: str | None = None
        self.timing: Timing | None = None

    async def serve(
        self,
        deltas: Sequence[Delta],
        weight_version: str,
        pause_mode: PauseMode | None = None,
        meanwhile: Meanwhile | None = None,
    ) -> None:
        """Swap to exactly these live deltas and name the weights ``weight_version``.

        Running requests are preempted and recomputed, finished or aborted as the pause mode
        says; every KV cache is cleared, so no answer mixes weights. ``meanwhile`` is done in the
        same pause. Where running requests are to be recomputed and something new is served, it
        begins when the pace of swaps lets it.

        Raises:
            SwapFailed: a rank refused; what was served before is served again.
        """
        mode = pause_mode or self._pause_mode
        await asyncio.shield(self._serve(deltas, weight_version, mode, meanwhile))

    async def close(self) -> None:
        """No swap follows."""
        if self._pace:
            await self._pace.close()

    async def _serve(
        self,
        deltas: Sequence[Delta],
        version: str,
        mode: PauseMode,
        meanwhile: Meanwhile | None,
    ) -> None:
        async with self._lock:
            if self.stopped:
                raise SwapFailed(self.stopped, code=STOPPED)
            self._require_one_base(deltas)
            sums = await asyncio.to_thread(live_sums, deltas, self._live)
            self._version = self._version or await self._ranks.version()
            if sums or meanwhile is not None:
                if self._pace and mode == "keep" and not self._taking_back(deltas):
                    await self._pace.rest()
                await self._swap(sums, version, mode, meanwhile or _Nothing())
            else:
                await self._ranks.set_version(version)
            self._version, self._served = version, tuple(deltas)

    def _taking_back(self, deltas: Sequence[Delta]) -> bool:
        """Whether nothing comes that is not served already; what was wrong goes at once."""
        return all(any(delta is served for served in self._served) for delta in deltas)

    async def _swap(
        self, sums: dict[str, DeltaSum], version: str, mode: PauseMode, meanwhile: Meanwhile
    ) -> None:
        staged = time.perf_counter()
        await self._stage(sums)
        paused = time.perf_counter()
        await self._take_effect(version, mode, meanwhile)
        self.timing = Timing(staged, paused, time.perf_counter())
        if self._pace and mode == "keep":
            self._pace.resumed(paused)
        SWAPPING.labels("stage").observe(paused - staged)
        SWAPPING.labels("pause").observe(self.timing.resumed - paused)
        self._live = frozenset(n for n, change in sums.items() if not change.is_empty)
        await self._finish()

    def _require_one_base(self, deltas: Sequence[Delta]) -> None:
        bases = {delta.fingerprint for delta in deltas}
        if len(bases | ({self._fingerprint} - {None})) > 1:
            raise SwapFailed("A live delta was computed for another base. Roll it back.")

    async def _stage(self, sums: dict[str, DeltaSum]) -> None:
        """Have every rank build the new weights; nothing is served otherwise meanwhile."""
        self._number += 1
        data = await asyncio.to_thread(pack, sums)
        try:
            *parts, last = chunks(data)
            for part in parts:
                await self._ranks.call("edit_receive", self._number, part)
            replies = await self._ranks.call("edit_stage", self._number, last, sorted(sums))
            _require_placed(sums, await self._built(replies))
        except SwapFailed:
            await self._finish()
            raise

    async def _built(self, replies: Sequence[Reply]) -> Sequence[Reply]:
        """The ranks' replies when all of them have built their weights."""
        wait, longest = _POLL_SECONDS
        while not all(reply.ready for reply in replies):
            await asyncio.sleep(wait)
            wait = min(2 * wait, longest)
            replies = await self._ranks.call("edit_built", self._number)
        return replies

    async def _take_effect(self, version: str, mode: PauseMode, meanwhile: Meanwhile) -> None:
        try:
            await self._ranks.pause(mode)
        except SwapFailed as failure:
            await self._resume_after(failure)
            raise
        try:
            await self._ranks.commit(self._number, version)
            await _or_failed(meanwhile.do())
            await self._ranks.resume()
        except SwapFailed as failure:
            await self._restore_after(failure, meanwhile)
            raise

    async def _resume_after(self, failure: SwapFailed) -> None:
        """Go on with the weights that were never touched."""
        try:
            await self._ranks.resume()
        except SwapFailed as second:
            raise self._stop(failure, second) from second
        await self._finish()

    async def _restore_after(self, failure: SwapFailed, meanwhile: Meanwhile) -> None:
        logger.warning("A swap failed (%s); restoring what was served before.", failure.message)
        try:
            # Some engines may have resumed. New requests wait; running ones are recomputed.
            await self._ranks.pause("keep")
            await self._ranks.call("edit_restore", self._number)
            await _or_failed(meanwhile.undo())
            if await self._ranks.version() != self._version:
                await self._ranks.set_version(self._version)
            await self._ranks.resume()
        except SwapFailed as second:
            raise self._stop(failure, second) from second
        await self._finish()

    def _stop(self, failure: SwapFailed, second: SwapFailed) -> SwapFailed:
        self.stopped = (
            f"{failure.message} What was served before could not be restored ({second.message}), "
            "so the engine answers nothing more. Start the server again: it serves the edits "
            "that were in effect."
        )
        logger.critical("%s", self.stopped)
        return SwapFailed(self.stopped, code=STOPPED)

    async def _finish(self) -> None:
        """Let every rank drop what the swap needed; that costs memory only if it fails."""
        try:
            await self._ranks.call("edit_finish", self._number, sorted(self._live))
        except SwapFailed as error:
            logger.warning("A rank keeps weights of a swap that is over: %s", error.message)


async def _or_failed(done: Awaitable[None]) -> None:
    """Await it; raises SwapFailed for whatever it raises, since the engine is paused."""
    try:
        await done
    except SwapFailed:
        raise
    except Exception as error:
        raise SwapFailed(f"{type(error).__name__}: {error}") from error


def _require_placed(updates: Iterable[str], replies: Sequence[Reply]) -> None:
    placed = {name for reply in replies for name in reply.placed}
    if missing := sorted(set(updates) - placed):
        raise SwapFailed(
            f"The engine loads no {', '.join(missing)}: it is tied to another parameter, or no "
            "part of the served model. Choose other layers."
        )
