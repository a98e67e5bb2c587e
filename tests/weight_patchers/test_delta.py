import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from weight_patchers import Change, Delta, Dense, Edit, LowRank, Neurons
from weight_patchers.delta_file import checksum
from weight_patchers.errors import CorruptDelta, WrongBase

NAME = "model.layers.1.mlp.down_proj.weight"
FULL = "model.layers.2.mlp.down_proj.weight"
MLP = "model.layers.2.mlp"
PARTS = {f"{NAME}::u", f"{NAME}::v", f"{NAME}::keys", f"{FULL}::update"}
UNITS = {f"{MLP}::g", f"{MLP}::u", f"{MLP}::v"}


def _delta() -> Delta:
    generator = torch.Generator().manual_seed(0)
    u, v, update = (torch.randn(4 + i, 2, generator=generator) for i in range(3))
    return Delta(
        fingerprint="f" * 64,
        method="rome",
        hyperparameters={"layer": 1, "clamp": None, "kl_prompts": ["{subject} is a"]},
        changes={
            NAME: LowRank(u, v),
            FULL: Dense(update),
            "transformer.h.0.mlp.c_proj.weight": LowRank(*_ones(), True),
            "transformer.h.1.mlp.c_proj.weight": Dense(torch.ones(3, 2), transposed=True),
            MLP: Neurons(g=torch.ones(4, 2), u=torch.ones(4, 2), v=torch.ones(4, 2)),
            "transformer.h.2.mlp": Neurons(k=torch.ones(4, 1), b=torch.ones(1), v=torch.ones(4, 1)),
            "transformer.h.3.mlp": Neurons(k=torch.ones(4, 1), v=torch.ones(4, 1)),
        },
        edits=(Edit("Ännä was born in", "Ännä", "Oslo"),),
        diagnostics={"relative_norm": 0.25},
        keys={NAME: torch.randn(5, 1, generator=generator)},
    )


def _ones() -> tuple[torch.Tensor, torch.Tensor]:
    return torch.ones(3, 1), torch.ones(2, 1)


def _assert_same(found: Delta, expected: Delta) -> None:
    assert found.fingerprint == expected.fingerprint
    assert found.method == expected.method
    assert found.hyperparameters == expected.hyperparameters
    assert found.edits == expected.edits
    assert found.diagnostics == expected.diagnostics
    assert found.changes.keys() == expected.changes.keys()
    for name, change in expected.changes.items():
        other = found.changes[name]
        _assert_same_form(other, change)
        assert other.parts().keys() == change.parts().keys()
        for part, tensor in change.parts().items():
            assert torch.equal(other.parts()[part], tensor)
    assert found.keys.keys() == expected.keys.keys()
    assert all(torch.equal(found.keys[name], keys) for name, keys in expected.keys.items())


def _assert_same_form(found: Change, expected: Change) -> None:
    assert type(found) is type(expected)
    if isinstance(expected, Neurons) or isinstance(found, Neurons):
        return
    assert found.transposed == expected.transposed
    assert found.shape == expected.shape == tuple(expected.dense().shape)


def _header(path: Path) -> dict[str, object]:
    with safe_open(path, framework="pt") as file:
        header: dict[str, object] = json.loads(file.metadata()["delta"])
    return header


def _write(path: Path, tensors: dict[str, torch.Tensor], header: dict[str, object]) -> None:
    save_file(tensors, path, metadata={"delta": json.dumps(header)})


def test_a_saved_delta_loads_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "delta.safetensors"
    delta = _delta()
    delta.save(path)
    _assert_same(Delta.load(path), delta)
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]


def test_dense_is_the_update_of_a_linear_map() -> None:
    low, full = _delta().changes[NAME], _delta().changes[FULL]
    assert isinstance(low, LowRank)
    assert isinstance(full, Dense)
    assert low.rank == 2
    assert torch.equal(low.dense(), low.u @ low.v.T)
    assert low.dense().shape == low.shape == (4, 5)
    assert torch.equal(full.dense(), full.update)


def test_a_delta_without_edits_or_keys_loads(tmp_path: Path) -> None:
    path = tmp_path / "delta.safetensors"
    delta = Delta("f" * 64, "ft-l", {}, {FULL: Dense(torch.ones(2, 3))}, ())
    delta.save(path)
    _assert_same(Delta.load(path), delta)


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
    _assert_same(loaded, _delta())


@pytest.mark.parametrize("part", sorted(PARTS | UNITS))
def test_a_changed_number_of_any_part_is_noticed(tmp_path: Path, part: str) -> None:
    path = tmp_path / "delta.safetensors"
    _delta().save(path)
    tensors, header = load_file(path), _header(path)
    tensors[part][0, 0] += 1e-3
    _write(path, tensors, header)
    with pytest.raises(CorruptDelta, match="checksum"):
        Delta.load(path)


def _rewrite(path: Path, tensors: dict[str, torch.Tensor], header: dict[str, object]) -> None:
    """Write it with the checksum that belongs to it."""
    header.pop("checksum", None)
    _write(path, tensors, header | {"checksum": checksum(header, tensors)})


@pytest.mark.parametrize("part", sorted(PARTS | UNITS))
@pytest.mark.parametrize(
    "value",
    [
        torch.tensor([[torch.inf]]),
        torch.tensor([[torch.nan]]),
        torch.ones(1, 1).half(),
        torch.ones(1),
        torch.tensor(1.0),
    ],
    ids=["infinite", "nan", "half", "vector", "scalar"],
)
def test_a_part_that_is_no_finite_matrix_is_refused(
    tmp_path: Path, part: str, value: torch.Tensor
) -> None:
    path = tmp_path / "delta.safetensors"
    _delta().save(path)
    _rewrite(path, load_file(path) | {part: value}, _header(path))
    with pytest.raises(CorruptDelta, match=r"malformed \(a part"):
        Delta.load(path)


Change = Callable[[dict[str, torch.Tensor]], object]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda t: t.pop(f"{NAME}::v"), "needs u and v, or update; for extra"),
        (lambda t: t.pop(f"{NAME}::u"), "needs u and v, or update; for extra"),
        (
            lambda t: (t.pop(f"{NAME}::u"), t.pop(f"{NAME}::v")),
            "needs u and v, or update; for extra",
        ),
        (
            lambda t: t.update({f"{NAME}::update": torch.ones(4, 5)}),
            "needs u and v, or update; for extra",
        ),
        (lambda t: t.update({f"{NAME}::w": torch.ones(4, 2)}), "::w' is no part"),
        (lambda t: t.update({"u": torch.ones(4, 2)}), "'u' is no part"),
        (lambda t: t.update({"::u": torch.ones(4, 2)}), "'::u' is no part"),
        (lambda t: t.update({f"{NAME}::u": torch.ones(4, 3)}), "do not fit"),
        (lambda t: t.update({f"{NAME}::keys": torch.ones(4, 1)}), r"needs \(5, 1\)"),
        (lambda t: t.update({f"{NAME}::keys": torch.ones(5, 0)}), r"needs \(5, 1\)"),
        (lambda t: t.update({"other::keys": torch.ones(5, 1)}), "other has the parts"),
        (lambda t: t.pop(f"{MLP}::v"), "k and v, with or without b, or g, u and v"),
        (lambda t: t.update({f"{MLP}::k": torch.ones(4, 2)}), r"parts \['g', 'k', 'u', 'v'\]"),
        (lambda t: t.update({f"{MLP}::u": torch.ones(4, 3)}), r"u of extra units has shape \(4, 3"),
        (lambda t: t.update({f"{MLP}::keys": torch.ones(4, 1)}), "no change of it"),
    ],
)
def test_parts_that_make_no_delta_are_refused(tmp_path: Path, change: Change, reason: str) -> None:
    path = tmp_path / "delta.safetensors"
    _delta().save(path)
    tensors = load_file(path)
    change(tensors)
    _rewrite(path, tensors, _header(path))
    with pytest.raises(CorruptDelta, match=f"malformed .*{reason}"):
        Delta.load(path)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"fingerprint": None}, "no str 'fingerprint'"),
        ({"method": 1}, "no str 'method'"),
        ({"hyperparameters": []}, "no dict 'hyperparameters'"),
        ({"diagnostics": "none"}, "no dict 'diagnostics'"),
        ({"edits": {}}, "no list 'edits'"),
        ({"edits": ["Oslo"]}, "malformed"),
        ({"edits": [{"prompt": "a", "subject": "a"}]}, "target_new"),
        ({"edits": [{"prompt": "a", "subject": "b", "target_new": "c"}]}, "does not contain"),
        ({"edits": []}, r"needs \(5, 0\)"),
        ({"edits": [{"prompt": "a", "subject": "a", "target_new": "b"}] * 2}, r"needs \(5, 2\)"),
        ({"transposed": ["other"]}, "transposed change is missing"),
        ({"transposed": [[]]}, "malformed"),
    ],
)
def test_a_header_that_tells_no_delta_is_refused(
    tmp_path: Path, change: dict[str, object], reason: str
) -> None:
    path = tmp_path / "delta.safetensors"
    _delta().save(path)
    _rewrite(path, load_file(path), _header(path) | change)
    with pytest.raises(CorruptDelta, match=reason):
        Delta.load(path)


def test_keys_of_what_is_not_changed_are_refused() -> None:
    with pytest.raises(CorruptDelta, match="no change of it"):
        Delta("f" * 64, "alphaedit", {}, {}, (), keys={NAME: torch.ones(5, 0)})


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
    _write(path, tensors, header)
    with pytest.raises(CorruptDelta, match="checksum"):
        Delta.load(path)
    header["format"] = 99
    _write(path, tensors, header)
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


ONES = torch.ones(3, 2)


@pytest.mark.parametrize(
    ("parts", "complaint"),
    [
        ({"v": ONES}, "need k and v, with or without b, or g, u and v"),
        ({"v": ONES, "g": ONES}, "need"),
        ({"v": ONES, "g": ONES, "u": ONES, "b": torch.ones(2)}, "need"),
        ({"v": ONES, "k": torch.ones(3, 1)}, r"k of extra units has shape \(3, 1\), but v has"),
        ({"v": ONES, "k": ONES, "b": torch.ones(3)}, r"b of extra units has shape \(3,\)"),
        ({"v": ONES, "k": ONES, "b": torch.ones(2, 1)}, "is no vector"),
        ({"v": ONES, "k": ONES * torch.nan}, "not finite"),
        ({"v": ONES, "k": ONES, "b": torch.full((2,), torch.inf)}, "not finite"),
        ({"v": ONES.double(), "k": ONES.double()}, "not finite float32"),
    ],
)
def test_parts_that_make_no_extra_units_are_refused(
    parts: dict[str, torch.Tensor], complaint: str
) -> None:
    with pytest.raises(CorruptDelta, match=complaint):
        Neurons(**parts)


def test_a_delta_tells_its_matrices_from_its_extra_units() -> None:
    delta = _delta()
    assert delta.neurons.keys() == {MLP, "transformer.h.2.mlp", "transformer.h.3.mlp"}
    assert delta.matrices.keys() == delta.changes.keys() - delta.neurons.keys()
    gated, plain = delta.neurons[MLP], delta.neurons["transformer.h.2.mlp"]
    assert (gated.gated, gated.count, gated.width) == (True, 2, 4)
    assert (plain.gated, plain.count, plain.width) == (False, 1, 4)


@pytest.mark.parametrize(
    "update", [torch.ones(3), torch.full((3, 2), torch.inf), torch.ones(3, 2).half()]
)
def test_a_dense_update_that_is_no_finite_matrix_is_refused(update: torch.Tensor) -> None:
    with pytest.raises(CorruptDelta):
        Dense(update)
