"""Batches and successions on the real engine and editor, held to digests of what is served."""

import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.engine.running import engine, served
from tests.engine.variants import variants_over
from tests.leading import leading
from vllm_edit import factworld
from vllm_edit.domain.edit import EditRequest, Status
from vllm_edit.editor.client import EditorClient, EditorOptions
from vllm_edit.engine.swap import Swapper
from vllm_edit.service.service import EditService
from vllm_edit.weights.delta_store import DeltaStore
from vllm_edit.weights.method import WeightMethod


@asynccontextmanager
async def service(client: Any, swapper: Swapper, store: Path) -> AsyncIterator[EditService]:
    """The weight methods over an engine that serves the base, as a server has them at its start."""
    await swapper.serve([], "0")
    model = factworld.checkpoint()
    scratch = tempfile.TemporaryDirectory(prefix="vllm-edit-")
    options = EditorOptions(model, Path(scratch.name), store / "statistics", timeout=300.0)
    method = WeightMethod(
        DeltaStore(store / "deltas", model),
        EditorClient(options),
        variants_over(client, swapper, Path(scratch.name)),
        hyperparameters={},
        eager=False,
        public=bool,
        scratch=scratch,
    )
    async with leading(store / "ledger.sqlite3", method) as running:
        yield running


def requests(method: str, *targets: str | None) -> list[EditRequest]:
    """Edits of the world's first facts, of their own targets or of these."""
    records = factworld.requests("easyedit", len(targets), seed=0)
    return [
        EditRequest(method, r["prompt"], r["subject"], target or r["target_new"])
        for r, target in zip(records, targets, strict=True)
    ]


async def posted(service: EditService, *requests: EditRequest) -> list[str]:
    """The ids of edits posted in one list, each of which became active."""
    edits = await service.submit(requests, wait=True)
    assert [edit.status for edit in edits] == [Status.ACTIVE] * len(edits), edits
    return [edit.id for edit in edits]


def files(store: Path) -> int:
    return len(list((store / "deltas").iterdir()))


# vLLM's engine client leaves its ZeroMQ context to the garbage collector.
@pytest.mark.filterwarnings("ignore:Unclosed context:ResourceWarning")
@pytest.mark.filterwarnings(
    "ignore:Exception ignored.*Context:pytest.PytestUnraisableExceptionWarning"
)
@pytest.mark.timeout(900)
async def test_what_is_served_depends_on_the_edits_in_effect_alone(tmp_path: Path) -> None:
    single, *batch = requests("memit", None, None, None)
    (rome,) = requests("rome", None)
    assert rome.prompt == single.prompt
    (again,) = requests("rome", batch[0].target_new)
    later = EditRequest("memit", batch[0].prompt, batch[0].subject, batch[1].target_new)
    async with engine(1) as client:
        swapper = Swapper(client, "keep")
        base = await served(client)
        async with service(client, swapper, tmp_path) as first:
            (alone,) = await posted(first, rome)
            members = await posted(first, *batch)
            whole = await served(client)
            (successor,) = await posted(first, later)
            assert first.get(members[0]).superseded_by == successor
            succeeded = await served(client)
            assert succeeded[1] != whole[1]
            assert files(tmp_path) == 4

        async with service(client, swapper, tmp_path) as second:
            assert await served(client) == succeeded
            await second.roll_back(successor)
            assert second.get(members[0]).status is Status.ACTIVE
            assert await served(client) == whole

            (other,) = await posted(second, again)
            assert second.get(alone).superseded_by == other
            assert (await served(client))[1] != whole[1]
            await second.roll_back(other)
            assert await served(client) == whole

            await second.roll_back(members[0])
            rest = await served(client)
            assert rest[1] not in (whole[1], succeeded[1])

        async with service(client, swapper, tmp_path) as third:
            assert await served(client) == rest
            await third.roll_back(members[1])
            await third.roll_back(alone)
            assert await served(client) == base
            assert files(tmp_path) == 0
