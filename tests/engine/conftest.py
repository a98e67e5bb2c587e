"""Engines that the tests of the swap share, one after another."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from tests.engine.running import SPARE_UNITS, engine, served
from vllm_edit.engine.swap import Swapper


@pytest_asyncio.fixture(loop_scope="session", scope="session", params=[1, 2], ids=["tp1", "tp2"])
async def shared_engine(request: pytest.FixtureRequest) -> AsyncIterator[Any]:
    """An engine on one rank, and then on two, whose steps a test can break."""
    options = {"spare_units": SPARE_UNITS, "worker_extension_cls": "tests.engine.faults.Faults"}
    async with engine(request.param, **options) as running:
        running.base = await served(running)
        yield running


@pytest.fixture
def client(shared_engine: Any) -> Any:
    """The engine client of the shared engine."""
    return shared_engine


@pytest_asyncio.fixture(loop_scope="session")
async def swapper(client: Any) -> AsyncIterator[Swapper]:
    """A swapper of the shared engine; when its edits are taken back, nothing is left of them."""
    swapper = Swapper(client, "keep")
    yield swapper
    await swapper.serve([], "default")
    assert await served(client) == client.base
