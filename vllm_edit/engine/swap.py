"""The front side of a swap: every worker serves base plus the live deltas, or nothing changes."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from vllm_edit.domain.errors import SwapFailed
from vllm_edit.engine.adapter_change import AdapterChange
from vllm_edit.engine.deadlines import Deadlines
from vllm_edit.engine.engine_call import TIMED_OUT
from vllm_edit.engine.metrics import NOT_SERVING, SWAP_FAILURES, SWAPPING
from vllm_edit.engine.pace import Pace
from vllm_edit.engine.payload import Content, Live, chunks, pack
from vllm_edit.engine.step_reply import StepReply
from vllm_edit.engine.unit_budget import publish, require_spare
from vllm_edit.engine.worker_group import WorkerGroup, still_running
from vllm_edit.vllm_interface.engine import EngineClient, PauseMode
from weight_patchers import Delta

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


class Swapper:
    """Drives a swap: build the new weights while serving, then commit them in a short pause.

    After a swap that raised, every rank serves what it served before, verified by checksum. If
    that cannot be verified, the engine stays paused and answers no request. This swap and every
    later one then raise SwapFailed with the code ``serving_stopped``, and ``stopped`` says why.
    The server must be started again, which replays the edits. ``timing`` is that of the latest
    swap.

    Neither for concurrent swaps nor to be cancelled; `ServedVariants` takes care of both.
    """

    def __init__(
        self,
        engine: EngineClient,
        pause_mode: PauseMode,
        pace: Pace | None = None,
        deadlines: Deadlines | None = None,
    ) -> None:
        self._deadlines = deadlines or Deadlines()
        self._workers = WorkerGroup(engine, self._deadlines)
        self._pause_mode = pause_mode
        self._pace = pace
        self._live = Live()
        self._spare: Mapping[str, int] | None = None
        self._served: tuple[Delta, ...] = ()
        self._version = ""
        self._number = 0
        self.stopped: str | None = None
        self.timing: Timing | None = None

    async def serve(
        self,
        deltas: Sequence[Delta],
        weight_version: str,
        pause_mode: PauseMode | None = None,
        adapters: AdapterChange | None = None,
    ) -> None:
        """Swap to exactly these live deltas and name the weights ``weight_version``.

        Running requests are preempted and recomputed, finished or aborted, as the pause mode
        says; those that do not end in time where a swap in the mode ``wait`` needs it make it
        fail. Every KV cache is cleared, so no answer mixes weights. ``adapters`` change with the
        weights. A swap that brings a new delta and has running requests recomputed first waits
        until the pace of swaps allows it.

        Raises:
            SwapFailed: a rank refused or did not answer in time, or requests did not end; what was
                served before is served again.
            NoSpareUnits: an MLP has fewer spare units than the deltas need.
        """
        if self.stopped:
            raise SwapFailed(self.stopped, code=STOPPED)
        _require_one_base(deltas)
        content = await asyncio.to_thread(Content.of, deltas, self._live)
        spare = await self._spare_for(content)
        mode = pause_mode or self._pause_mode
        self._version = self._version or await self._workers.version()
        if content.names or adapters:
            if self._pace and mode == "keep" and not self._only_removes(deltas):
                await self._pace.wait()
            try:
                await self._swap(content, weight_version, mode, adapters or AdapterChange())
            except SwapFailed:
                SWAP_FAILURES.inc()
                raise
        else:
            await self._workers.set_version(weight_version)
        self._version, self._served = weight_version, tuple(deltas)
        publish(content.used, spare)

    async def close(self) -> None:
        """No swap follows."""
        if self._pace:
            await self._pace.close()

    async def _spare_for(self, content: Content) -> Mapping[str, int]:
        """The spare units of each MLP, asked for once, if it touches any."""
        if content.neurons and self._spare is None:
            self._spare = await self._workers.spare_units()
        spare = self._spare or {}
        require_spare(content.used, spare)
        return spare

    def _only_removes(self, deltas: Sequence[Delta]) -> bool:
        """Whether all these deltas are served already: then a wrong edit goes without delay."""
        return all(any(delta is served for served in self._served) for delta in deltas)

    async def _swap(
        self, content: Content, version: str, mode: PauseMode, adapters: AdapterChange
    ) -> None:
        """The swap from its first step to its last; a failed step undoes those before it."""
        await self._end_unfit(adapters, mode)
        async with adapters.without_removal():
            try:
                await adapters.prepare()
                staged = time.perf_counter()
                await self._stage(content)
                paused = time.perf_counter()
                await self._pause(mode)
                try:
                    await self._workers.commit(self._number, version)
                    await _or_swap_failed(adapters.exchange())
                    await self._workers.resume()
                    resumed = time.perf_counter()
                except SwapFailed as failure:
                    await self._restore_after(failure, adapters)
                    raise
            except SwapFailed:
                await adapters.take_back()
                raise
        adapters.publish()
        self._record(Timing(staged, paused, resumed), mode)
        self._live = content.live
        await self._finish()

    async def _end_unfit(self, adapters: AdapterChange, mode: PauseMode) -> None:
        """End variants that the new weights have no place for, and wait for their requests.

        Those that take too long go on under the new weights as all others do, or end in the pause,
        or make the swap fail, as the pause mode says.
        """
        try:
            async with asyncio.timeout(self._deadlines.requests):
                await adapters.end_unfit()
        except TimeoutError as error:
            if mode == "wait":
                async with adapters.without_removal():
                    await adapters.take_back()
                raise still_running(self._deadlines.requests) from error
            logger.warning(
                "Requests of a variant that ends still run after %g s.", self._deadlines.requests
            )

    async def _stage(self, content: Content) -> None:
        """Have every rank build the new weights, while all ranks go on serving the old ones."""
        self._number += 1
        data = await asyncio.to_thread(pack, content.sums, content.neurons)
        try:
            *parts, last = chunks(data)
            for part in parts:
                await self._workers.call("edit_receive", self._number, part)
            names = sorted(content.sums), sorted(content.neurons)
            replies = await self._workers.call("edit_stage", self._number, last, *names)
            _require_placed(content.names, await self._built(replies))
        except SwapFailed:
            await self._finish()
            raise

    async def _built(self, replies: Sequence[StepReply]) -> Sequence[StepReply]:
        """The ranks' replies when all of them have built their weights."""
        wait, longest = _POLL_SECONDS
        last = time.monotonic() + self._deadlines.answer
        while not all(reply.ready for reply in replies):
            if time.monotonic() > last:
                raise SwapFailed(
                    f"A rank did not build the edited weights within {self._deadlines.answer:g} s. "
                    "If it is only slow, raise --edit-engine-timeout.",
                    code=TIMED_OUT,
                )
            await asyncio.sleep(wait)
            wait = min(2 * wait, longest)
            replies = await self._workers.call("edit_built", self._number)
        return replies

    async def _pause(self, mode: PauseMode) -> None:
        """Pause every engine; after a failure all go on with the weights that they have."""
        try:
            await self._workers.pause(mode)
        except SwapFailed as failure:
            try:
                await self._workers.resume()
            except SwapFailed as second:
                raise self._stop(failure, second) from second
            await self._finish()
            raise

    async def _restore_after(self, failure: SwapFailed, adapters: AdapterChange) -> None:
        """Serve what was served before, in the order of the swap."""
        logger.warning("A swap failed (%s); restoring what was served before.", failure.message)
        try:
            # Some engines may have resumed. New requests wait; running ones are recomputed.
            await self._workers.pause("keep")
            await self._workers.call("edit_restore", self._number)
            await _or_swap_failed(adapters.exchange_back())
            if await self._workers.version() != self._version:
                await self._workers.set_version(self._version)
            await self._workers.resume()
        except SwapFailed as second:
            raise self._stop(failure, second) from second
        await self._finish()

    def _stop(self, failure: SwapFailed, second: SwapFailed) -> SwapFailed:
        self.stopped = (
            f"{failure.message} What was served before could not be restored ({second.message}), "
            "so the engine answers nothing more. Start the server again: it serves the edits "
            "that were in effect."
        )
        NOT_SERVING.set(1)
        logger.critical("%s", self.stopped)
        return SwapFailed(self.stopped, code=STOPPED)

    async def _finish(self) -> None:
        """Let every rank drop what the swap needed; a failure of this costs only memory."""
        try:
            await self._workers.call("edit_finish", self._number, sorted(self._live.parameters))
        except SwapFailed as error:
            logger.warning("A rank keeps weights of a swap that is over: %s", error.message)

    def _record(self, timing: Timing, mode: PauseMode) -> None:
        self.timing = timing
        if self._pace and mode == "keep":
            self._pace.record_swap(timing.paused)
        SWAPPING.labels("stage").observe(timing.paused - timing.staged)
        SWAPPING.labels("pause").observe(timing.resumed - timing.paused)


async def _or_swap_failed(done: Awaitable[None]) -> None:
    """Await it; raises SwapFailed for whatever it raises, since the engine is paused."""
    try:
        await done
    except SwapFailed:
        raise
    except Exception as error:
        raise SwapFailed(f"{type(error).__name__}: {error}") from error


def _require_one_base(deltas: Sequence[Delta]) -> None:
    if len({delta.fingerprint for delta in deltas}) > 1:
        raise SwapFailed("A live delta was computed for another base. Roll it back.")


def _require_placed(names: Iterable[str], replies: Sequence[StepReply]) -> None:
    placed = {name for reply in replies for name in reply.placed}
    if missing := sorted(set(names) - placed):
        raise SwapFailed(
            f"The engine loads no {', '.join(missing)}: it is tied to another parameter, or no "
            "part of the served model. Choose other layers."
        )
