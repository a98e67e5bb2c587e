"""Delta files of several servers, shared by a real database."""

import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests import one_weight
from vllm_edit import factworld
from vllm_edit.cli import main
from vllm_edit.domain.edit import EditRequest, Proposal, Status, Step
from vllm_edit.domain.errors import ComputeFailed, StoreError
from vllm_edit.ledger import Ledger, Log, SharedDeltas, database_of, deltas_of, shared_deltas
from vllm_edit.store import Store
from vllm_edit.weights.delta_store import DeltaKey, DeltaStore
from weight_patchers import Delta, LowRank, fingerprint

KEY = DeltaKey("edit-1", ("edit-1",))
OTHER = DeltaKey("batch-1", ("edit-2", "edit-3"))


@pytest.fixture
def log(database: Store) -> Iterator[Log]:
    with Log(database_of(database)) as log:
        yield log


@pytest.fixture
def shared(log: Log) -> SharedDeltas:
    shared = deltas_of(log)
    assert shared is not None
    return shared


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return one_weight.base(tmp_path / "model")


@pytest.fixture
def delta(model: Path) -> Delta:
    return one_weight.delta_of(model)


@pytest.fixture
def server(tmp_path: Path, model: Path, shared: SharedDeltas) -> Callable[[str], DeltaStore]:
    """The delta files of a server of that name."""
    return lambda name: DeltaStore(tmp_path / name, model, shared)


def test_a_folder_shares_by_itself(folder: Store) -> None:
    with Log(database_of(folder)) as log:
        assert deltas_of(log) is None


@pytest.mark.parametrize("size", [0, 99, 100, 101, 1000])
def test_files_of_any_size_pass(
    shared: SharedDeltas, tmp_path: Path, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shared_deltas, "PART_BYTES", 100)
    content = bytes(n % 251 for n in range(size))
    (tmp_path / "sent").write_bytes(content)
    shared.put("a", tmp_path / "sent")
    assert shared.get("a", tmp_path / "received")
    assert (tmp_path / "received").read_bytes() == content
    assert sorted(path.name for path in tmp_path.iterdir()) == ["received", "sent"]


def test_files_larger_than_a_row_pass(shared: SharedDeltas, tmp_path: Path) -> None:
    content = bytes(range(256)) * (1 << 17)
    (tmp_path / "sent").write_bytes(content)
    shared.put("a", tmp_path / "sent")
    assert shared.get("a", tmp_path / "received")
    assert (tmp_path / "received").read_bytes() == content


def test_a_file_is_replaced_as_a_whole(shared: SharedDeltas, tmp_path: Path) -> None:
    sent = tmp_path / "sent"
    for content in (b"long" * 1000, b"short"):
        sent.write_bytes(content)
        shared.put("a", sent)
        assert shared.get("a", tmp_path / "received")
        assert (tmp_path / "received").read_bytes() == content
    assert shared.names() == ["a"]
    shared.remove(["a", "b"])
    assert shared.names() == []
    assert not shared.get("a", tmp_path / "received")


def test_writers_of_one_name_take_turns(
    shared: SharedDeltas, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shared_deltas, "PART_BYTES", 100)
    files = [tmp_path / str(n) for n in range(4)]
    for number, path in enumerate(files):
        path.write_bytes(bytes([number]) * 1000)
    threads = [threading.Thread(target=shared.put, args=("a", path)) for path in files]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert shared.get("a", tmp_path / "received")
    assert (tmp_path / "received").read_bytes() in [path.read_bytes() for path in files]


def test_a_file_that_cannot_be_written_is_told(shared: SharedDeltas, tmp_path: Path) -> None:
    (tmp_path / "sent").write_bytes(b"x")
    shared.put("a", tmp_path / "sent")
    with pytest.raises(StoreError, match="--edit-cache"):
        shared.get("a", tmp_path / "missing" / "received")
    with pytest.raises(StoreError, match="--edit-cache"):
        shared.put("a", tmp_path / "missing")
    assert shared.names() == ["a"]


async def test_what_one_server_computed_others_have(
    server: Callable[[str], DeltaStore], delta: Delta
) -> None:
    first, second = server("first"), server("second")
    assert await first.load(KEY) is None
    delta.save(first.path(KEY))
    assert await second.load(KEY) is None
    await first.load_new(KEY)
    found = await second.load(KEY)
    assert found is not None
    assert torch.equal(found.changes["weight"].dense(), delta.changes["weight"].dense())
    assert second.path(KEY).read_bytes() == first.path(KEY).read_bytes()


async def test_a_file_that_cannot_be_used_is_not_shared(
    server: Callable[[str], DeltaStore], shared: SharedDeltas
) -> None:
    first = server("first")
    first.path(KEY).write_bytes(b"no delta")
    with pytest.raises(ComputeFailed):
        await first.load_new(KEY)
    assert shared.names() == []


async def test_a_damaged_or_old_copy_is_fetched_again(
    server: Callable[[str], DeltaStore], delta: Delta
) -> None:
    first, second = server("first"), server("second")
    delta.save(first.path(KEY))
    await first.load_new(KEY)
    await second.load(KEY)
    copy = second.path(KEY)
    whole = copy.read_bytes()
    copy.write_bytes(whole[:-1] + b"\xff")
    assert await second.load(KEY) is not None
    assert copy.read_bytes() == whole
    replace(delta, method="emmet").save(first.path(KEY))
    await first.load_new(KEY)
    found = await second.load(KEY)
    assert found is not None
    assert found.method == "emmet"


async def test_what_is_damaged_in_the_database_is_computed_again(
    server: Callable[[str], DeltaStore],
    delta: Delta,
    log: Log,
    caplog: pytest.LogCaptureFixture,
) -> None:
    first, second = server("first"), server("second")
    delta.save(first.path(KEY))
    await first.load_new(KEY)
    with log.database.engine.begin() as connection:
        connection.exec_driver_sql("UPDATE deltas SET data = data || 'x'::bytea")
    assert await second.load(KEY) is None
    assert "is damaged in" in caplog.text
    assert not second.path(KEY).exists()
    delta.save(second.path(KEY))
    await second.load_new(KEY)
    assert await server("third").load(KEY) is not None


async def test_what_has_ended_goes_with_the_next_load(
    server: Callable[[str], DeltaStore], delta: Delta, shared: SharedDeltas
) -> None:
    first = server("first")
    for key in (KEY, OTHER):
        delta.save(first.path(key))
        await first.load_new(key)
    assert shared.names() == sorted([KEY.file_name, OTHER.file_name])
    first.remove_ended(["edit-1"])
    await first.load(OTHER)
    assert shared.names() == [OTHER.file_name]
    first.remove(OTHER)
    assert await first.load(OTHER) is None
    assert shared.names() == []
    first.remove(OTHER)
    delta.save(first.path(OTHER))
    await first.load_new(OTHER)
    assert shared.names() == [OTHER.file_name]


async def test_a_start_removes_what_no_edit_can_want(
    server: Callable[[str], DeltaStore], delta: Delta, shared: SharedDeltas
) -> None:
    first = server("first")
    for key in (KEY, OTHER):
        delta.save(first.path(key))
        await first.load_new(key)
    second = server("second")
    await second.load(KEY)
    await second.keep_only({"batch-1"})
    assert shared.names() == [OTHER.file_name]
    assert not second.path(KEY).exists()


def test_what_is_active_in_a_database_is_exported(
    database: Store, shared: SharedDeltas, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    parameter = "model.layers.1.mlp.down_proj.weight"
    rows, columns = load_file(factworld.checkpoint() / "model.safetensors")[parameter].shape
    change = LowRank(torch.ones(rows, 1), torch.ones(columns, 1) / 8)
    file = tmp_path / KEY.file_name
    Delta(fingerprint(factworld.checkpoint()), "rome", {}, {parameter: change}, ()).save(file)
    with Ledger.open(database) as ledger:
        ledger.propose([Proposal("edit-1", EditRequest("rome", "X is", "X", "Y"))])
        ledger.record([Step("edit-1", Status.ACTIVE)])
    command = ["export", f"--store={database}", "--as=peft", f"--output={tmp_path / 'adapter'}"]
    assert main(command) == 1
    said = capsys.readouterr().err
    assert f"postgresql://postgres@/postgres has no usable {KEY.file_name}" in said
    shared.put(KEY.file_name, file)
    assert main(command) == 0
    assert "an adapter of rank 1 for 1 delta" in capsys.readouterr().out
