"""``vllm-edit store``, without a server and on stores that cannot be written."""

import importlib
import json
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests import one_weight
from vllm_edit.cli import main
from vllm_edit.cli.export import active_deltas
from vllm_edit.domain.edit import EditRequest, Proposal, Status, Step
from vllm_edit.domain.edit_set import EditSet
from vllm_edit.ledger import LEDGER_FILE, Ledger
from vllm_edit.store import Store
from vllm_edit.weights.delta_store import DeltaKey

METHODS = {"alone": "rome", "gone": "rome", "fact": "ike", "newer": "ike"}
DELTAS = [DeltaKey(name, (name,)) for name in ("alone", "gone")]


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """A store with two weight edits, one of them rolled back, and a superseded fact."""
    folder = tmp_path / "store"
    requests = {i: EditRequest(method, f"{i} is", i, "x") for i, method in METHODS.items()}
    with Ledger(folder / LEDGER_FILE) as ledger:
        ledger.propose([Proposal(i, request) for i, request in requests.items()])
        ledger.record([Step(edit_id, Status.ACTIVE) for edit_id in METHODS])
        ledger.record([Step("gone", Status.ROLLED_BACK)])
        ledger.record([Step("fact", Status.SUPERSEDED, superseded_by="newer")])
    (folder / "deltas").mkdir()
    delta = one_weight.delta_of(one_weight.base(tmp_path / "model"))
    for key in DELTAS:
        delta.save(folder / "deltas" / key.file_name)
    return folder


def run(action: str, store: Path, *arguments: object) -> int:
    return main(["store", action, "--store", str(store), *map(str, arguments)])


def statuses(store: Path) -> dict[str, str]:
    with Ledger(store / LEDGER_FILE) as ledger:
        return {edit.id: edit.status.value for edit in ledger.edits()}


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@contextmanager
def nobody(folder: Path) -> Iterator[None]:
    """As a user who may read the folder and write nothing in it."""
    for path in [folder, *folder.rglob("*")]:
        path.chmod(0o555 if path.is_dir() else 0o444)
    if os.geteuid():
        yield
        return
    # The interpreter's own files may not be theirs to read.
    importlib.import_module("vllm_edit.weights.method")
    os.setegid(65534)
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(0)


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that every user may enter, which those of pytest are not."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


def test_a_store_that_cannot_be_written_is_read(
    store: Path, open_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    closed, crashed, copied = (open_folder / name for name in ("closed", "crashed", "copied"))
    with Ledger(store / LEDGER_FILE) as ledger:
        ledger.record([Step("alone", Status.ACTIVE)])
        for folder in (crashed, copied):
            shutil.copytree(store, folder)
        (copied / f"{LEDGER_FILE}-shm").unlink()
    shutil.copytree(store, closed)
    for folder in (closed, crashed, copied):
        before = contents(folder)
        with nobody(folder):
            assert run("check", folder) == 0
            assert run("list", folder, "--json") == 0
            assert [p.name for p in active_deltas(Store(folder), folder)] == ["alone.safetensors"]
        output = capsys.readouterr().out
        assert "active: 2\nrolled_back: 1\nsuperseded: 1\n" in output
        lines = [json.loads(line) for line in output.splitlines() if line.startswith("{")]
        assert [line["id"] for line in lines] == [*METHODS]
        assert contents(folder) == before


def test_a_store_in_use_is_read_and_backed_up(
    store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    backup, restored = tmp_path / "backup.tar", tmp_path / "new" / "restored"
    with Ledger(store / LEDGER_FILE) as ledger:
        assert ledger.try_to_lead("")
        ledger.record([Step("alone", Status.ROLLED_BACK)])
        assert run("list", store) == 0
        assert "alone\trolled_back\trome\t\talone is\tx\n" in capsys.readouterr().out
        assert run("backup", store, backup) == 0
        for action, arguments in (("rollback", ["newer"]), ("compact", [])):
            assert run(action, store, *arguments) == 1
            assert "Another server uses the edit store" in capsys.readouterr().err
    assert stat.S_IMODE(backup.stat().st_mode) == 0o600
    assert run("backup", store, backup) == 1
    assert "is there already" in capsys.readouterr().err
    assert run("restore", restored, backup) == 0
    assert statuses(restored) == statuses(store)
    assert contents(restored / "deltas") == contents(store / "deltas")
    assert run("restore", restored, backup) == 1
    assert "name a new folder" in capsys.readouterr().err
    backup.write_bytes(b"no tar")
    assert run("restore", tmp_path / "other", backup) == 1
    assert "is no backup" in capsys.readouterr().err
    assert not (tmp_path / "other").exists()


def test_check_names_a_delta_that_cannot_be_used(
    store: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (store / "deltas" / "alone.safetensors").write_bytes(b"no delta")
    (store / "deltas" / "gone.safetensors").unlink()
    assert run("check", store) == 1
    message = capsys.readouterr().err
    assert "the delta of alone cannot be used" in message
    assert "gone" not in message
    assert run("check", store / "deltas") == 1
    assert "is no edit store" in capsys.readouterr().err
    (store / LEDGER_FILE).write_bytes(b"no database" * 1000)
    assert run("check", store) == 1
    assert "Restore it from a backup" in capsys.readouterr().err.replace("restore", "Restore")


def test_an_edit_is_rolled_back_and_what_it_superseded_comes_back(
    store: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for bad in ("gone", "none"):
        assert run("rollback", store, "newer", bad) == 1
        assert bad in capsys.readouterr().err
        assert statuses(store)["newer"] == "active"
    assert run("rollback", store, "newer", "alone") == 0
    assert statuses(store) == {
        "alone": "rolled_back",
        "gone": "rolled_back",
        "fact": "active",
        "newer": "rolled_back",
    }
    with Ledger(store / LEDGER_FILE) as ledger:
        *_, last = ledger.log.read()
    assert last.actor is not None
    assert last.actor.client.startswith("vllm-edit store, user ")


def test_a_frozen_set_keeps_its_edits(store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    request = EditRequest("ike", "It is", "It", "x", edit_set="news")
    with Ledger(store / LEDGER_FILE) as ledger:
        ledger.record_set(EditSet.new("news", None))
        ledger.propose([Proposal("member", request)])
        frozen = EditSet.new("news", None)
        ledger.record_set(EditSet(**{**vars(frozen), "frozen": True}))
    assert run("rollback", store, "member") == 1
    assert "frozen" in capsys.readouterr().err


def test_compacting_keeps_every_event(store: Path) -> None:
    before = statuses(store)
    assert run("compact", store) == 0
    assert statuses(store) == before
    assert [path.name for path in (store / "deltas").iterdir()] == ["alone.safetensors"]
