import json
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from weight_patchers import Delta, Edit, LowRank
from weight_patchers.errors import CorruptDelta, WrongBase

NAME = "model.layers.1.mlp.down_proj.weight"


def _delta() -> Delta:
    generator = torch.Generator().manual_seed(0)
    factor = LowRank(torch.randn(4, 2, generator=generator), torch.randn(6, 2, generator=generator))
    return Delta(
        fingerprint="f" * 64,
        method="rome",
        hyperparameters={"layer": 1, "clamp": None, "kl_prompts": ["{subject} is a"]},
        factors={NAME: factor, "transformer.h.0.mlp.c_proj.weight": LowRank(*_ones(), True)},
        edits=(Edit("Ännä was born in", "Ännä", "Oslo"),),
        diagnostics={"relative_norm": 0.25},
    )


def _ones() -> tuple[torch.Tensor, torch.Tensor]:
    return torch.ones(3, 1), torch.ones(2, 1)


def _header(path: Path) -> dict[str, object]:
    with safe_open(path, framework="pt") as file:
        header: dict[str, object] = json.loads(file.metadata()["delta"])
    return header


def test_a_saved_delta_loads_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "delta.safetensors"
    delta = _delta()
    delta.save(path)
    loaded = Delta.load(path)
    assert loaded.fingerprint == delta.fingerprint
    assert loaded.method == "rome"
    assert loaded.hyperparameters == delta.hyperparameters
    assert loaded.edits == delta.edits
    assert loaded.diagnostics == delta.diagnostics
    assert loaded.factors.keys() == delta.factors.keys()
    for name, factor in delta.factors.items():
        assert torch.equal(loaded.factors[name].u, factor.u)
        assert torch.equal(loaded.factors[name].v, factor.v)
        assert loaded.factors[name].transposed == factor.transposed
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]


def test_dense_is_the_update_of_a_linear_map() -> None:
    factor = _delta().factors[NAME]
    assert factor.rank == 2
    assert torch.equal(factor.dense(), factor.u @ factor.v.T)
    assert factor.dense().shape == (4, 6)


def test_another_base_is_refused() -> None:
    _delta().require_base("f" * 64)
    with pytest.raises(WrongBase, match="computed for the base ffffffffffff"):
        _delta().require_base("e" * 64)


@settings(deadline=None)
@given(position=st.integers(min_value=0), change=st.integers(min_value=1, max_value=255))
def test_no_changed_byte_goes_unnoticed(
    tmp_path_factory: pytest.TempPathFactory, position: int, change: int
) -> None:
    path = tmp_path_factory.mktemp("delta") / "delta.safetensors"
    _delta().save(path)
    content = bytearray(path.read_bytes())
    content[position % len(content)] ^= change
    path.write_bytes(content)
    try:
        loaded = Delta.load(path)
    except CorruptDelta:
        return
    # Blanks that pad the file's own header may change without changing anything that is read.
    assert torch.equal(loaded.factors[NAME].u, _delta().factors[NAME].u)
    assert loaded.edits == _delta().edits


def test_a_cut_or_foreign_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "delta.safetensors"
    _delta().save(path)
    path.write_bytes(path.read_bytes()[:-8])
    with pytest.raises(CorruptDelta, match="no readable delta"):
        Delta.load(path)
    save_file({"weight": torch.zeros(2)}, path)
    with pytest.raises(CorruptDelta, match="no readable delta"):
        Delta.load(path)
    with pytest.raises(CorruptDelta, match="no readable delta"):
        Delta.load(tmp_path / "missing")


def test_a_wrong_checksum_and_a_later_format_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "delta.safetensors"
    _delta().save(path)
    tensors, header = load_file(path), _header(path)
    header["method"] = "memit"
    save_file(tensors, path, metadata={"delta": json.dumps(header)})
    with pytest.raises(CorruptDelta, match="checksum"):
        Delta.load(path)
    header["format"] = 99
    save_file(tensors, path, metadata={"delta": json.dumps(header)})
    with pytest.raises(CorruptDelta, match="format 99"):
        Delta.load(path)


def test_a_failed_save_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "delta.safetensors"
    path.mkdir()
    with pytest.raises(OSError, match="delta"):
        _delta().save(path)
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize(
    ("u", "v"),
    [
        (torch.ones(3, 1), torch.ones(2, 2)),
        (torch.ones(3), torch.ones(2)),
        (torch.full((3, 1), torch.nan), torch.ones(2, 1)),
        (torch.ones(3, 1, dtype=torch.float64), torch.ones(2, 1, dtype=torch.float64)),
    ],
)
def test_factors_that_do_not_fit_are_refused(u: torch.Tensor, v: torch.Tensor) -> None:
    with pytest.raises(CorruptDelta):
        LowRank(u, v)
