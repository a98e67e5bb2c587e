"""Every weight method in the editor process, on the bundled model."""

import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
import torch
from transformers import AutoConfig

from tests.editor.statistics_files import written
from vllm_edit import factworld
from vllm_edit.editor.client import EditorClient, EditorOptions
from vllm_edit.editor.messages import RequestedEdit
from weight_patchers import Delta
from weight_patchers.hyperparameters import find
from weight_patchers.methods import METHODS

# As shipped, the bound of FT-L keeps it from most targets.
VALUES = {"ft-l": {"norm_bound": 0.1}}

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest.fixture(scope="module")
def statistics(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("statistics")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def client(statistics: Path) -> AsyncIterator[EditorClient]:
    """One editor process over factworld, made ready for every method at once."""
    with tempfile.TemporaryDirectory(prefix="editor-") as sockets:
        options = EditorOptions(factworld.checkpoint(), Path(sockets), statistics, timeout=300.0)
        client = EditorClient(options)
        await client.start({name: {} for name in METHODS})
        yield client
        await client.close()


@pytest.fixture
def edits() -> list[RequestedEdit]:
    records = factworld.requests("easyedit", 2, seed=0)
    return [
        RequestedEdit(str(i), r["prompt"], r["subject"], r["target_new"])
        for i, r in enumerate(records)
    ]


def hparams(method: str) -> Any:
    config = AutoConfig.from_pretrained(factworld.checkpoint())
    return find(METHODS[method].hparams, method, config)


@pytest.mark.parametrize("method", METHODS)
async def test_two_facts_become_one_delta_that_reaches_both(
    client: EditorClient,
    statistics: Path,
    edits: list[RequestedEdit],
    tmp_path: Path,
    method: str,
) -> None:
    collected = written(statistics)
    path = tmp_path / "delta"
    computed = await client.compute(edits, method, path, hyperparameters=VALUES.get(method, {}))
    delta = Delta.load(path)
    assert delta.method == method
    assert [edit.subject for edit in delta.edits] == [edit.subject for edit in edits]
    modules = [f"model.layers.{n}.mlp" for n in hparams(method).layers]
    assert {name.removesuffix(".down_proj.weight") for name in delta.changes} <= {*modules}
    if method != "kn":  # it changes the layers that its neurons are in, and reaches few targets
        assert len(delta.changes) == len(modules)
        assert min(report["greedy_after"] for report in computed.diagnostics["edits"]) >= 0.5
    assert written(statistics) == collected


async def test_statistics_of_all_layers_were_collected_at_once(
    client: EditorClient, statistics: Path
) -> None:
    """One pass for the fixture's preparation, none for any method afterwards."""
    del client
    chosen = [hparams(method) for method in METHODS]
    needed = {n for h in chosen if h.covariance for n in h.layers}
    assert len(written(statistics)) == len(needed)


@pytest.mark.parametrize("method", [name for name, one in METHODS.items() if one.editor])
async def test_a_trained_editor_edits_the_base_whatever_is_live(
    client: EditorClient, edits: list[RequestedEdit], tmp_path: Path, method: str
) -> None:
    live, alone, on_top, both = (tmp_path / name for name in ("live", "alone", "on_top", "both"))
    await client.compute(edits[:1], method, live)
    await client.compute(edits[1:], method, alone)
    await client.compute(edits[1:], method, on_top, live=[live])
    await client.compute(edits, method, both)
    first, second, sums = (Delta.load(path).changes for path in (alone, on_top, both))
    for name, change in first.items():
        assert torch.equal(change.dense(), second[name].dense())
        summed = change.dense() + Delta.load(live).changes[name].dense()
        assert torch.allclose(sums[name].dense(), summed, rtol=1e-3, atol=1e-5)


async def test_a_live_set_is_trained_from_the_base(
    client: EditorClient, edits: list[RequestedEdit], tmp_path: Path
) -> None:
    """Whatever else is live, and in whatever order its edits are given."""
    live, alone, again = (tmp_path / name for name in ("live", "alone", "again"))
    await client.compute(edits[:1], "ft-m", live)
    await client.compute(edits, "ft-bf", alone)
    computed = await client.compute(edits[::-1], "ft-bf", again, live=[live])
    one, other = Delta.load(alone), Delta.load(again)
    assert all(torch.equal(c.dense(), other.changes[n].dense()) for n, c in one.changes.items())
    # What is judged is what is live together.
    assert computed.diagnostics["governor"]["drift"] != computed.diagnostics["drift"]


@pytest.mark.parametrize(
    "method",
    # kn looks for neurons in the base, whatever is live: see test_kn.
    [name for name, m in METHODS.items() if m.batch and not m.from_base and name != "kn"],
)
async def test_a_batch_is_computed_on_top_of_live_deltas(
    client: EditorClient, edits: list[RequestedEdit], tmp_path: Path, method: str
) -> None:
    one, alone, on_top = (tmp_path / name for name in ("one", "alone", "on_top"))
    await client.compute(edits[:1], method, one)
    await client.compute(edits[1:], method, alone)
    await client.compute(edits[1:], method, on_top, live=[one])
    first, second = Delta.load(alone).changes, Delta.load(on_top).changes
    assert any(float((first[n].dense() - second[n].dense()).norm()) > 0 for n in first)
    again = tmp_path / "again"
    await client.compute(edits[1:], method, again)
    assert again.read_bytes() == alone.read_bytes()
