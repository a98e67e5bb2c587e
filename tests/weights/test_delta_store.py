"""Delta files on a real disk: found by their edits, kept while these may come back."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from tests import one_weight
from vllm_edit.domain.errors import ComputeFailed
from vllm_edit.weights.delta_store import DeltaKey, DeltaStore
from weight_patchers import Delta
from weight_patchers.errors import WrongBase

SINGLE = DeltaKey("edit-1", ("edit-1",))
WHOLE = DeltaKey("batch-1", ("edit-2", "edit-3"))
REST = DeltaKey("batch-1", ("edit-3",))


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return one_weight.base(tmp_path / "model")


@pytest.fixture
def store(tmp_path: Path, model: Path) -> DeltaStore:
    return DeltaStore(tmp_path / "deltas", model)


@pytest.fixture
def delta(model: Path) -> Delta:
    return one_weight.delta_of(model)


def test_what_a_delta_holds_names_its_file() -> None:
    assert SINGLE.file_name == "edit-1.safetensors"
    names = {key.file_name for key in (SINGLE, WHOLE, REST, DeltaKey("batch-2", REST.edit_ids))}
    assert len(names) == 4
    assert {name.partition(".")[0] for name in names} == {"edit-1", "batch-1", "batch-2"}


async def test_a_delta_is_found_by_its_edits(store: DeltaStore, delta: Delta) -> None:
    assert await store.load(WHOLE) is None
    delta.save(store.path(WHOLE))
    assert (await store.load_new(WHOLE)).method == "memit"
    found = await store.load(WHOLE)
    assert found is not None
    assert torch.equal(found.changes["weight"].dense(), delta.changes["weight"].dense())
    assert await store.load(REST) is None


async def test_a_file_that_cannot_be_used_is_as_good_as_none(
    store: DeltaStore, delta: Delta
) -> None:
    replace(delta, fingerprint="another").save(store.path(WHOLE))
    store.path(REST).write_bytes(b"no delta")
    with pytest.raises(WrongBase):
        await store.load(WHOLE)
    assert await store.load(REST) is None
    with pytest.raises(ComputeFailed) as raised:
        await store.load_new(REST)
    assert raised.value.code == "corrupt_delta"


async def test_files_go_when_one_of_their_edits_has_ended(store: DeltaStore, delta: Delta) -> None:
    for key in (SINGLE, WHOLE, REST):
        delta.save(store.path(key))
    store.remove_ended(["edit-2"])
    assert [store.path(key).exists() for key in (SINGLE, WHOLE, REST)] == [True, False, True]
    store.remove_ended(["edit-3", "edit-4"])
    assert [store.path(key).exists() for key in (SINGLE, REST)] == [True, False]


async def test_no_file_goes_while_it_may_be_read(store: DeltaStore, delta: Delta) -> None:
    delta.save(store.path(SINGLE))
    with store.in_use():
        with store.in_use():
            store.remove_ended(["edit-1"])
        assert store.path(SINGLE).exists()
    assert not store.path(SINGLE).exists()


async def test_a_file_that_is_loaded_again_stays(store: DeltaStore, delta: Delta) -> None:
    for key in (SINGLE, WHOLE):
        delta.save(store.path(key))
    with store.in_use():
        store.remove_unread([SINGLE, WHOLE])
        assert await store.load(WHOLE) is not None
    assert [store.path(key).exists() for key in (SINGLE, WHOLE)] == [False, True]


async def test_a_start_removes_what_no_edit_can_want(store: DeltaStore, delta: Delta) -> None:
    await store.keep_only({"edit-1"})
    for key in (SINGLE, WHOLE, REST):
        delta.save(store.path(key))
    unfinished = store.path(SINGLE).with_name(".edit-9.safetensors.1.tmp")
    unfinished.touch()
    await store.keep_only({"edit-1"})
    assert [store.path(key).exists() for key in (SINGLE, WHOLE, REST)] == [True, False, False]
    assert not unfinished.exists()
