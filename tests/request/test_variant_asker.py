"""What does not answer in time, as the real model cannot be made to do."""

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from vllm_edit.domain.errors import Unavailable
from vllm_edit.memory.router import RoutedRequest
from vllm_edit.memory.routing_options import RoutingOptions
from vllm_edit.request.variant_asker import VariantAsker


class Stuck:
    """A router that comes to no decision; counts the requests that were given up."""

    def __init__(self) -> None:
        self.given_up = 0

    async def route(self, request: dict[str, Any], options: RoutingOptions) -> RoutedRequest:
        try:
            await asyncio.Event().wait()
        finally:
            self.given_up += 1
        raise AssertionError


async def test_beyond_their_time_all_prompts_are_given_up() -> None:
    stuck, names = Stuck(), SimpleNamespace(served=("m",), reasons={})
    asker = VariantAsker(None, stuck, names, None, timeout=0.2)  # type: ignore[arg-type]
    with pytest.raises(Unavailable, match=r"within 0\.2 s"):
        await asker.ask("default", [f"Q{number}" for number in range(20)])
    await asyncio.sleep(0)
    assert stuck.given_up == 20
