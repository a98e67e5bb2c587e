import math
from importlib.resources import files

import numpy as np
import pytest
import torch
import yaml
from transformers import GPTJConfig, LlamaConfig

from weight_patchers import Delta, Dense, LowRank, ParameterChange
from weight_patchers.errors import GovernorRefused, InvalidHyperparameters
from weight_patchers.governor import GOVERNOR, Bounds, judge, relative_norms
from weight_patchers.hyperparameters import find, override

FIRST, SECOND = "model.layers.1.mlp.down_proj.weight", "model.layers.2.mlp.down_proj.weight"
D_OUT, D_IN = 6, 9


def low(rank: int, seed: int, scale: float = 1.0) -> LowRank:
    generator = torch.Generator().manual_seed(seed)
    u, v = (torch.randn(width, rank, generator=generator) for width in (D_OUT, D_IN))
    return LowRank(u * scale, v)


def full(seed: int) -> Dense:
    return Dense(torch.randn(D_OUT, D_IN, generator=torch.Generator().manual_seed(seed)))


def delta(**changes: ParameterChange) -> Delta:
    names = {"first": FIRST, "second": SECOND}
    return Delta("any", "rome", {}, {names[key]: c for key, c in changes.items()}, ())


def exact(*changes: ParameterChange) -> float:
    """The norm of the sum, multiplied out in float64."""
    total = np.zeros((D_OUT, D_IN))
    for change in changes:
        parts = {name: part.double().numpy() for name, part in change.parts().items()}
        total += parts["update"] if "update" in parts else parts["u"] @ parts["v"].T
    return float(np.linalg.norm(total))


@pytest.mark.parametrize(
    "changes",
    [
        (low(1, 0),),
        (low(1, 0), low(1, 1), low(3, 2)),
        (low(40, 0), low(25, 1)),
        (low(1, 0, 1e-4), low(1, 1, 1e4)),
        (full(0),),
        (full(0), full(1)),
        (low(2, 0), full(1), low(3, 2)),
    ],
)
def test_the_norm_is_that_of_the_sum_of_all_changes(changes: tuple[ParameterChange, ...]) -> None:
    base = torch.randn(D_OUT, D_IN, generator=torch.Generator().manual_seed(9))
    measured = relative_norms([delta(first=change) for change in changes], {FIRST: base})
    expected = exact(*changes) / float(np.linalg.norm(base.double().numpy()))
    assert measured == {FIRST: pytest.approx(expected, rel=1e-6)}


def test_each_matrix_has_a_norm_of_its_own() -> None:
    base = {FIRST: torch.ones(D_OUT, D_IN), SECOND: torch.full((D_IN, D_OUT), 2.0)}
    one, both = low(1, 0), low(2, 1)
    measured = relative_norms([delta(first=one, second=both), delta(second=full(2))], base)
    size = math.sqrt(D_OUT * D_IN)
    assert measured[FIRST] == pytest.approx(exact(one) / size, rel=1e-6)
    assert measured[SECOND] == pytest.approx(exact(both, full(2)) / (2 * size), rel=1e-6)


def test_changes_that_cancel_leave_nothing() -> None:
    change = low(2, 0)
    back = LowRank(-change.u, change.v)
    deltas = [delta(first=change), delta(first=back)]
    measured = relative_norms(deltas, {FIRST: torch.ones(D_OUT, D_IN)})
    assert measured[FIRST] == pytest.approx(0, abs=1e-6)
    assert relative_norms([], {}) == {}


BOUNDS = Bounds(norm_warn=0.5, norm_refuse=2.0, drift_warn=0.25, drift_refuse=1.0)


@pytest.mark.parametrize(
    ("norm", "drift", "warned"),
    [
        (0.0, 0.0, []),
        (0.5, 0.25, []),
        (0.51, 0.25, ["norm_warn is 0.5"]),
        (0.5, 0.26, ["drift_warn is 0.25"]),
        (2.0, 1.0, ["norm_warn is 0.5", "drift_warn is 0.25"]),
    ],
)
def test_a_figure_is_warned_of_above_its_bound(
    norm: float, drift: float, warned: list[str]
) -> None:
    norms = {FIRST: 0.1, SECOND: norm}
    verdict = judge(BOUNDS, norms, {"mean": drift, "max": 9.0})
    assert (verdict.relative_norm, verdict.drift) == (norms, {"mean": drift, "max": 9.0})
    assert len(verdict.warnings) == len(warned)
    for warning, part in zip(verdict.warnings, warned, strict=True):
        assert part in warning
        assert "edits are refused above" in warning
    assert verdict.diagnostics()["warnings"] == list(verdict.warnings)


@pytest.mark.parametrize(
    ("norm", "drift", "message"),
    [
        (2.01, 0.0, rf"{SECOND} by 2\.01 times its norm, and norm_refuse is 2: take edits back"),
        (math.inf, 0.0, "by inf times"),
        (0.0, 1.5, r"drift 1\.5 nats on the control prompts, and drift_refuse is 1: .* raise"),
        (0.0, math.nan, "drift nan nats"),
    ],
)
def test_an_edit_is_refused_above_a_bound(norm: float, drift: float, message: str) -> None:
    with pytest.raises(GovernorRefused, match=message) as raised:
        judge(BOUNDS, {FIRST: 0.1, SECOND: norm}, {"mean": drift, "max": drift})
    assert raised.value.code == "governor_refused"


def test_without_bounds_nothing_is_said() -> None:
    assert judge(Bounds(), {FIRST: 1e9}, {"mean": 1e9, "max": 1e9}).warnings == ()
    assert judge(BOUNDS, {}, {"mean": 0.0, "max": 0.0}).warnings == ()


@pytest.mark.parametrize(
    ("values", "complaint"),
    [
        ({"norm_warn": 0}, "norm_warn is 0.0: it must be above 0, or null"),
        ({"norm_refuse": -1}, "norm_refuse is -1.0"),
        ({"drift_warn": math.nan}, "drift_warn is nan"),
        ({"drift_refuse": math.inf}, "drift_refuse is inf"),
        ({"norm_warn": 3}, "norm_warn is 3: it must be at most norm_refuse, 2"),
        ({"drift_refuse": 0.1}, "drift_warn is 0.25: it must be at most drift_refuse, 0.1"),
        ({"norm_warn": "high"}, "norm_warn is 'high'"),
        ({"norm": 1}, "unknown hyperparameters norm"),
    ],
)
def test_a_wrong_bound_is_refused(values: dict[str, object], complaint: str) -> None:
    with pytest.raises(InvalidHyperparameters, match=complaint):
        override(BOUNDS, values)


def test_bounds_can_be_lifted_and_may_meet() -> None:
    assert override(BOUNDS, {"norm_refuse": None}).norm_refuse is None
    assert override(BOUNDS, {"norm_warn": 2}).norm_warn == 2.0


def test_every_model_has_stated_bounds() -> None:
    for entry in (files("weight_patchers") / "hparams" / GOVERNOR).iterdir():
        content = yaml.safe_load(entry.read_text(encoding="utf-8"))
        assert content["values"].keys() == vars(Bounds()).keys()
        assert entry.read_text(encoding="utf-8").startswith("#"), "says where the values are from"
    factworld = LlamaConfig(
        hidden_size=160, intermediate_size=448, num_hidden_layers=6, num_attention_heads=5
    )
    assert find(Bounds, GOVERNOR, GPTJConfig()) == find(Bounds, GOVERNOR, LlamaConfig())
    assert find(Bounds, GOVERNOR, factworld) != find(Bounds, GOVERNOR, LlamaConfig())
