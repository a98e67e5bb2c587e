"""The file of --edit-hparams is checked whole before the server starts."""

from pathlib import Path

import pytest

from vllm_edit import factworld
from vllm_edit.domain.errors import Unavailable
from vllm_edit.weights.hyperparameters import read_hyperparameters
from weight_patchers.methods import METHODS


def read(folder: Path, text: str) -> dict[str, dict[str, object]]:
    path = folder / "hparams.yaml"
    path.write_text(text)
    return read_hyperparameters(path, factworld.checkpoint())


def test_values_are_given_by_method(tmp_path: Path) -> None:
    text = "rome: {steps: 20, clamp: null}\nmemit: {layers: [1, 2]}\n"
    assert read(tmp_path, text) == {
        "rome": {"steps": 20, "clamp": None},
        "memit": {"layers": [1, 2]},
    }


def test_bounds_of_the_governor_are_given_beside_them(tmp_path: Path) -> None:
    text = "governor: {norm_refuse: 3, drift_refuse: null}\n"
    assert read(tmp_path, text) == {"governor": {"norm_refuse": 3, "drift_refuse": None}}


@pytest.mark.parametrize("method", METHODS)
def test_every_method_can_be_named(tmp_path: Path, method: str) -> None:
    assert read(tmp_path, f"{method}: {{}}") == {method: {}}


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("prayer: {}", "names prayer; the weight methods are .*rome"),
        ("rome: {lr: 1}", "rome: unknown hyperparameters lr: known are .*steps"),
        ("rome: {1: 2}", "rome: unknown hyperparameters 1"),
        ("rome: {steps: fast}", "rome: steps is 'fast'"),
        ("rome: {steps: 0}", "rome: steps is 0: it must be between"),
        ("governor: {norms: 1}", "governor: unknown hyperparameters norms: known are norm_warn"),
        ("governor: {drift_warn: -1}", "governor: drift_warn is -1.0: it must be above 0"),
        ("steps: 20", "must hold, for each method, a mapping"),
        ("rome", "must hold, for each method, a mapping"),
        ("", "must hold, for each method, a mapping"),
        ("rome: {", "cannot be read"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, text: str, match: str) -> None:
    with pytest.raises(Unavailable, match=match):
        read(tmp_path, text)


def test_files_that_are_not_there_are_named(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match=r"missing\.yaml cannot be read"):
        read_hyperparameters(tmp_path / "missing.yaml", factworld.checkpoint())
    path = tmp_path / "hparams.yaml"
    path.write_text("rome: {}")
    with pytest.raises(Unavailable, match="config"):
        read_hyperparameters(path, tmp_path)
