"""What one editor process computes, and refuses, for the client in front of it."""

import tempfile
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
import pytest_asyncio

from tests.editor.statistics_files import written
from tests.editor.test_client import EDIT, FAST
from vllm_edit.domain.errors import ComputeFailed
from vllm_edit.editor.client import EditorClient, EditorOptions
from vllm_edit.editor.messages import RequestedEdit
from weight_patchers import Delta, fingerprint

OTHER = RequestedEdit("e2", "Anna Berg was born in", "Anna Berg", "Paris")

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest.fixture(scope="module")
def options(model: Path, text: Path, tmp_path_factory: pytest.TempPathFactory) -> EditorOptions:
    statistics = tmp_path_factory.mktemp("editor") / "statistics"
    # The folder of the sockets is the client's.
    return EditorOptions(model, Path(), statistics, text=text, timeout=120.0)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def client(options: EditorOptions) -> AsyncIterator[EditorClient]:
    """One editor process for all tests here."""
    with tempfile.TemporaryDirectory(prefix="editor-") as folder:
        client = EditorClient(replace(options, sockets=Path(folder)))
        yield client
        await client.close()


async def test_deltas_are_computed_on_top_of_live_ones(
    client: EditorClient, options: EditorOptions, tmp_path: Path
) -> None:
    one, two, both, again = (tmp_path / name for name in ("one", "two", "both", "again"))
    first = await client.compute([EDIT], "rome", one, hyperparameters=FAST)
    pid = client.pid
    assert first.path == one
    assert first.seconds > 0
    assert written(options.statistics)
    delta = Delta.load(one)
    assert delta.fingerprint == fingerprint(options.model)
    assert delta.edits[0].target_new == "Lima"
    assert first.diagnostics["edits"] == delta.diagnostics["edits"]

    await client.compute([OTHER], "rome", two, live=[one], hyperparameters=FAST)
    await client.compute([EDIT, OTHER], "rome", both, hyperparameters=FAST)
    await client.compute([EDIT], "rome", again, hyperparameters=FAST)
    assert client.pid == pid
    (name,) = delta.changes
    summed = delta.changes[name].dense() + Delta.load(two).changes[name].dense()
    difference = Delta.load(both).changes[name].dense() - summed
    assert float(difference.norm()) < 1e-3 * float(summed.norm())
    assert again.read_bytes() == one.read_bytes()


async def test_failures_name_their_reason_and_leave_the_process_working(
    client: EditorClient, tmp_path: Path
) -> None:
    output = tmp_path / "delta"

    async def refused(code: str, match: str, **changes: object) -> None:
        arguments: dict[str, object] = {"edits": [EDIT], "method": "rome", "output": output}
        with pytest.raises(ComputeFailed, match=match) as raised:
            await client.compute(**(arguments | changes))  # type: ignore[arg-type]
        assert raised.value.code == code

    await refused("invalid_edit", "does not contain", edits=[RequestedEdit("e", "a", "b", "c")])
    await refused("unknown_method", "no method 'memory'", method="memory")
    await refused("invalid_hyperparameters", "unknown", hyperparameters={"lr": 1})
    await refused("unsupported_model", "layers 0 to 2", hyperparameters={"layer": 9})
    await refused("corrupt_delta", "no readable delta", live=[tmp_path / "missing"])
    await refused("invalid_hyperparameters", "norm_warn is 0", bounds={"norm_warn": 0})
    await refused(
        "editor_io", "cannot use a file", output=tmp_path / "no" / "delta", hyperparameters=FAST
    )
    pid = client.pid
    assert not output.exists()
    await client.compute([EDIT], "rome", output, hyperparameters=FAST)
    assert output.exists()
    assert client.pid == pid


async def test_the_governor_judges_all_deltas_together_and_may_refuse(
    client: EditorClient, tmp_path: Path
) -> None:
    one, two, again = (tmp_path / name for name in ("one", "two", "again"))
    first = await client.compute([EDIT], "rome", one, hyperparameters=FAST)
    verdict = first.diagnostics["governor"]
    assert verdict["warnings"] == []
    assert verdict["relative_norm"] == pytest.approx(first.diagnostics["relative_norm"], rel=1e-4)
    assert verdict["drift"] == pytest.approx(first.diagnostics["drift"], rel=1e-2, abs=1e-5)

    (name,) = verdict["relative_norm"]
    bounds = {"norm_warn": verdict["relative_norm"][name] * 1.01}
    second = await client.compute(
        [OTHER], "rome", two, live=[one], hyperparameters=FAST, bounds=bounds
    )
    assert second.diagnostics["relative_norm"][name] < bounds["norm_warn"]
    (warning,) = second.diagnostics["governor"]["warnings"]
    assert f"change {name} by" in warning
    assert Delta.load(two).diagnostics == second.diagnostics

    bounds["norm_refuse"] = bounds["norm_warn"]
    with pytest.raises(ComputeFailed, match="norm_refuse is") as raised:
        await client.compute(
            [OTHER], "rome", again, live=[one], hyperparameters=FAST, bounds=bounds
        )
    assert raised.value.code == "governor_refused"
    assert not again.exists()
    await client.compute([OTHER], "rome", again, live=[one], hyperparameters=FAST)
    diagnostics = Delta.load(again).diagnostics
    assert diagnostics["governor"] == {**second.diagnostics["governor"], "warnings": []}


async def test_statistics_are_kept_for_the_next_process(
    client: EditorClient, options: EditorOptions, sockets: Path, tmp_path: Path
) -> None:
    assert await client.start({"rome": FAST}) == fingerprint(options.model)
    stored = written(options.statistics)
    assert stored
    second = EditorClient(replace(options, sockets=sockets))
    await second.compute([EDIT], "rome", tmp_path / "delta", hyperparameters=FAST)
    await second.close()
    assert written(options.statistics) == stored
