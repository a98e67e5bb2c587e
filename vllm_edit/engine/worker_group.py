"""All workers of a vLLM engine, for a swap: each of them does a step, or the step has failed."""

import asyncio
from collections.abc import Awaitable, Mapping, Sequence
from typing import Any, TypeVar

from vllm_edit.domain.errors import SwapFailed
from vllm_edit.engine.deadlines import Deadlines
from vllm_edit.engine.engine_call import TIMED_OUT, call_engine
from vllm_edit.engine.step_reply import StepReply
from vllm_edit.vllm_interface.engine import EngineClient, PauseMode, call_ranks, pause

T = TypeVar("T")


class WorkerGroup:
    """The workers of all engines behind one client: tensor, pipeline and data parallel ones.

    Every method raises SwapFailed when a rank refuses, or an engine cannot be reached or does not
    answer in time. What such an engine does afterwards is not known.
    """

    def __init__(self, engine: EngineClient, deadlines: Deadlines) -> None:
        self._engine = engine
        self._deadlines = deadlines

    async def call(self, step: str, number: int, *args: object) -> Sequence[StepReply]:
        """One step of swap ``number`` on every rank; each has done it when this returns."""
        answers = await self._call(call_ranks(self._engine, step, number, *args))
        replies = [_read(data, step, number) for engine in answers for data in engine]
        if faults := sorted({reply.fault for reply in replies if reply.fault}):
            raise SwapFailed(f"The engine refused the edited weights: {' '.join(faults)}")
        return replies

    async def spare_units(self) -> Mapping[str, int]:
        """How many inner units each MLP has for edits, those in use among them."""
        answers = await self._call(call_ranks(self._engine, "edit_spare_units"))
        return {mlp: count for engine in answers for rank in engine for mlp, count in rank.items()}

    async def pause(self, mode: PauseMode) -> None:
        """Halt generation and clear every KV cache.

        Running requests are kept, awaited for a limited time or aborted, as the mode says.
        """
        if mode != "wait":
            await self._call(pause(self._engine, mode))
            return
        try:
            await call_engine(pause(self._engine, mode), self._deadlines.requests)
        except SwapFailed as failure:
            if failure.code == TIMED_OUT:
                raise still_running(self._deadlines.requests) from failure
            raise

    async def resume(self) -> None:
        await self._call(self._engine.resume_generation())

    async def version(self) -> str:
        return await self._call(self._engine.get_weight_version())

    async def set_version(self, version: str) -> None:
        await self._call(self._engine.update_weight_version(version))

    async def commit(self, number: int, version: str) -> None:
        """Serve the staged weights under this version; both are done or refused on return."""
        # Sent together: each would cost the pause the way there and back.
        done = await asyncio.gather(
            self.call("edit_commit", number), self.set_version(version), return_exceptions=True
        )
        for outcome in done:
            if isinstance(outcome, BaseException):
                raise outcome

    async def _call(self, call: Awaitable[T]) -> T:
        return await call_engine(call, self._deadlines.answer)


def still_running(seconds: float) -> SwapFailed:
    """The error of a swap that has waited so long for requests to end."""
    return SwapFailed(
        f"Requests that this change waits for did not end within {seconds:g} s. Make it again "
        "later, raise --edit-swap-wait, or choose the pause mode keep or abort.",
        code="requests_running",
    )


def _read(data: Any, step: str, number: int) -> StepReply:
    try:
        reply = StepReply.from_wire(data)
    except TypeError as error:
        raise SwapFailed(f"A rank answered {step} with {data!r}.") from error
    if (reply.step, reply.number) != (step, number):
        raise SwapFailed(f"A rank answered {step} of swap {number} with {reply}.")
    return reply
