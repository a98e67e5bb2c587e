"""``vllm-edit export`` on delta files and on an edit store."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from vllm_edit import factworld
from vllm_edit.cli import main
from vllm_edit.domain.edit import EditRequest, Proposal, Status, Step
from vllm_edit.ledger import Ledger
from vllm_edit.weights.delta_store import DeltaKey
from weight_patchers import Delta, Dense, LowRank, ParameterChange, fingerprint

PARAMETER = "model.layers.1.mlp.down_proj.weight"


@pytest.fixture(scope="module")
def base() -> dict[str, torch.Tensor]:
    return load_file(factworld.checkpoint() / "model.safetensors")


def low_rank(base: dict[str, torch.Tensor], seed: int) -> LowRank:
    generator = torch.Generator().manual_seed(seed)
    rows, columns = base[PARAMETER].shape
    return LowRank(*(torch.randn(d, 1, generator=generator) / 8 for d in (rows, columns)))


def delta(change: ParameterChange) -> Delta:
    return Delta(fingerprint(factworld.checkpoint()), "rome", {}, {PARAMETER: change}, ())


def saved(change: ParameterChange, path: Path) -> Path:
    path.parent.mkdir(exist_ok=True)
    delta(change).save(path)
    return path


def exported(output: Path, base: dict[str, torch.Tensor]) -> torch.Tensor:
    """What was added to the one parameter."""
    return load_file(output / "model.safetensors")[PARAMETER].float() - base[PARAMETER].float()


def run(*arguments: object) -> int:
    return main(["export", *map(str, arguments)])


def test_delta_files_become_a_checkpoint_or_an_adapter(
    base: dict[str, torch.Tensor], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    changes = [low_rank(base, seed) for seed in range(2)]
    files = [saved(c, tmp_path / f"{i}.safetensors") for i, c in enumerate(changes)]
    merged, adapter = tmp_path / "merged", tmp_path / "adapter"
    assert run(*files, "--as", "checkpoint", "--output", merged) == 0
    assert "with 2 deltas merged" in capsys.readouterr().out
    total = changes[0].dense() + changes[1].dense()
    torch.testing.assert_close(exported(merged, base), total, atol=2e-3, rtol=0)
    assert run(*files, "--model", factworld.checkpoint(), "--as", "peft", "--output", adapter) == 0
    assert "an adapter of rank 2 for 2 deltas" in capsys.readouterr().out
    a, b = (t for _, t in sorted(load_file(adapter / "adapter_model.safetensors").items()))
    torch.testing.assert_close(b @ a, total)


def test_what_cannot_be_exported_says_why(
    base: dict[str, torch.Tensor], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "output"
    full = saved(Dense(low_rank(base, 0).dense()), tmp_path / "full.safetensors")
    assert run(full, "--as", "peft", "--output", output) == 1
    assert "export a merged checkpoint" in capsys.readouterr().err
    assert run(tmp_path / "none", "--as", "peft", "--output", output) == 1
    assert "no readable delta file" in capsys.readouterr().err
    assert run(full, "--model", tmp_path / "none", "--as", "peft", "--output", output) == 1
    assert "is not on this machine" in capsys.readouterr().err
    assert not output.exists()
    assert run(full, "--as", "peft", "--rank", 1, "--output", output) == 0
    assert "for 1 delta\n" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (("--as", "peft"), "--store"),
        (("x", "--store", "y", "--as", "peft"), "--store"),
        (("x", "--as", "checkpoint", "--rank", "2"), "--rank goes with"),
        (("x", "--as", "onnx"), "invalid choice"),
    ],
)
def test_a_call_that_makes_no_sense_is_refused(
    arguments: tuple[str, ...], reason: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stopped:
        run(*arguments, "--output", "z")
    assert stopped.value.code == 2
    assert reason in capsys.readouterr().err


def test_a_store_gives_what_is_active_in_it(
    base: dict[str, torch.Tensor], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store, output = tmp_path / "store", tmp_path / "output"
    methods = {"alone": "rome", "gone": "rome", "one": "memit", "two": "memit", "fact": "ike"}
    with Ledger(store / "ledger.sqlite3") as ledger:
        requests = {i: EditRequest(method, f"{i} is", i, "x") for i, method in methods.items()}
        batches = {"one": "both", "two": "both"}
        ledger.propose([Proposal(i, r, batches.get(i)) for i, r in requests.items()])
        ledger.record([Step(edit_id, Status.ACTIVE) for edit_id in methods])
        ledger.record([Step("gone", Status.ROLLED_BACK)])
    live = {
        DeltaKey("alone", ("alone",)): low_rank(base, 1),
        DeltaKey("both", ("one", "two")): low_rank(base, 2),
    }
    for key, change in live.items():
        saved(change, store / "deltas" / key.file_name)
    assert run("--store", store, "--as", "checkpoint", "--output", output) == 0
    total = torch.stack([change.dense() for change in live.values()]).sum(dim=0)
    torch.testing.assert_close(exported(output, base), total, atol=2e-3, rtol=0)
    assert run("--store", tmp_path, "--as", "checkpoint", "--output", output) == 1
    assert "is no edit store" in capsys.readouterr().err
    assert not (tmp_path / "ledger.sqlite3").exists()
