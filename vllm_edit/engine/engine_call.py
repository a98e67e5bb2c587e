"""Calls to vLLM's engine client."""

from collections.abc import Awaitable
from typing import TypeVar

from vllm_edit.domain.errors import SwapFailed

T = TypeVar("T")


async def call_engine(call: Awaitable[T]) -> T:
    """Await a call to the engine; raises SwapFailed for whatever it raises.

    vLLM passes errors of its processes on as bare Exceptions, so nothing narrower can be named.
    """
    try:
        return await call
    except Exception as error:
        raise SwapFailed(f"The engine could not be reached for a swap: {error}") from error
