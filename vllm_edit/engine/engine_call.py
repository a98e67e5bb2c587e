"""Calls to vLLM's engine client."""

import asyncio
from collections.abc import Awaitable
from typing import TypeVar

from vllm_edit.domain.errors import SwapFailed

T = TypeVar("T")

TIMED_OUT = "engine_timeout"
"""Code of the error of a call that was not answered in time."""


async def call_engine(call: Awaitable[T], seconds: float) -> T:
    """Await a call to the engine, for so long; raises SwapFailed for whatever it raises.

    vLLM passes errors of its processes on as bare Exceptions, so nothing narrower can be named.
    """
    try:
        async with asyncio.timeout(seconds):
            return await call
    except TimeoutError as error:
        raise SwapFailed(
            f"The engine did not answer within {seconds:g} s. If it is only slow, raise "
            "--edit-engine-timeout.",
            code=TIMED_OUT,
        ) from error
    except Exception as error:
        raise SwapFailed(f"The engine could not be reached for a swap: {error}") from error
