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


async def test_beyond_its_time_a_prompt_is_given_up_and_no_other_is_asked() -> None:
    stuck, names = Stuck(), SimpleNamespace(served=("m",), reasons={})
    asker = VariantAsker(None, stuck, names, None, timeout=0.05)  # type: ignore[arg-type]
    with pytest.raises(Unavailable, match=r"within 0\.05 s"):
        await asker.ask("default", [f"Q{number}" for number in range(20)])
    assert stuck.given_up == 1
    with pytest.raises(Unavailable, match=r"within 0\.05 s"):
        await asker.complete("default", "Q", 8)
    with pytest.raises(Unavailable, match=r"within 0\.05 s"):
        await asker.chat("default", "Q", 8)
    assert stuck.given_up == 3
