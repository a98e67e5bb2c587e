"""The closed forms against slow float64 NumPy that is written from the papers' formulas."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from weight_patchers import Statistics
from weight_patchers.alphaedit import compute as alphaedit
from weight_patchers.emmet import compute as emmet
from weight_patchers.errors import ComputationFailed, UnusableStatistics
from weight_patchers.hyperparameters import build
from weight_patchers.memit import MemitHparams
from weight_patchers.memit import compute as memit
from weight_patchers.rome.compute import rank_one
from weight_patchers.spreading.aims import anchored
from weight_patchers.statistics.factor import factorize

Matrix = NDArray[np.float64]
D_IN, D_OUT = 12, 5


def _moment(seed: int, samples: int = 60) -> Matrix:
    rng = np.random.default_rng(seed)
    keys = rng.normal(size=(samples, D_IN)) * np.linspace(0.3, 3.0, D_IN)
    return keys.T @ keys / samples


def _normal(seed: int, *shape: int) -> Matrix:
    return np.random.default_rng(seed + 1000).normal(size=shape)


def _statistics(moment: Matrix) -> Statistics:
    return Statistics("0" * 64, "made", 1, "float64", {0: torch.tensor(moment)})


def _close(found: torch.Tensor, expected: Matrix) -> bool:
    scale = float(np.abs(expected).max())
    return bool(np.abs(found.double().numpy() - expected).max() <= 1e-5 * max(scale, 1.0))


@pytest.mark.parametrize("n", [1, 4, 11, 12, 30])
@pytest.mark.parametrize("weight", [0.1, 20.0])
def test_memit(n: int, weight: float) -> None:
    c, k, r = _moment(n), _normal(n, D_IN, n), _normal(n + 1, D_OUT, n)
    expected = r @ k.T @ np.linalg.inv(weight * c + k @ k.T)
    v = memit.adjusted_keys(factorize(torch.tensor(c)), torch.tensor(k), weight)
    assert _close(torch.tensor(r) @ v.T, expected)


@pytest.mark.parametrize("n", [1, 4, 30])
@pytest.mark.parametrize("ridge", [0.0, 20.0])
def test_memit_with_an_identity(n: int, ridge: float) -> None:
    c, k, r = _moment(n), _normal(n, D_IN, n), _normal(n + 1, D_OUT, n)
    expected = r @ k.T @ np.linalg.inv(5.0 * c + ridge * np.eye(D_IN) + k @ k.T)
    hparams = build(MemitHparams, {"layers": [0], "covariance_weight": 5.0, "ridge": ridge})
    job: Any = SimpleNamespace(statistics=_statistics(c), hparams=hparams)
    v, _ = memit.solve(job, 0, torch.tensor(k))
    assert _close(torch.tensor(r) @ v.T, expected)


@pytest.mark.parametrize("n", [1, 4, 11])
@pytest.mark.parametrize("ridge", [0.0, 0.1])
def test_emmet(n: int, ridge: float) -> None:
    c, k, r = _moment(n), _normal(n, D_IN, n), _normal(n + 1, D_OUT, n)
    inverse = np.linalg.inv(3.0 * c)
    expected = r @ np.linalg.inv(k.T @ inverse @ k + ridge * np.eye(n)) @ k.T @ inverse
    v = emmet.adjusted_keys(factorize(torch.tensor(c)), torch.tensor(k), 3.0, ridge)
    assert _close(torch.tensor(r) @ v.T, expected)


def test_emmet_with_one_edit_is_rome() -> None:
    c, k, r = (torch.tensor(x) for x in (_moment(0), _normal(0, D_IN, 1), _normal(1, D_OUT)))
    factor = factorize(c)
    u, v = rank_one(k.T, r, factor.solve(k[:, 0])[None])
    one = torch.outer(r, emmet.adjusted_keys(factor, k, 1.0, 0.0)[:, 0])
    assert torch.allclose(one, torch.outer(u, v).double(), rtol=1e-5, atol=1e-6)


def test_emmet_needs_a_ridge_for_keys_that_depend_on_each_other() -> None:
    k = torch.tensor(_normal(0, D_IN, 3))
    k = torch.cat([k, k[:, :1]], dim=1)
    factor = factorize(torch.tensor(_moment(0)))
    with pytest.raises(ComputationFailed, match="ridge"):
        emmet.adjusted_keys(factor, torch.cat([k] * 4, dim=1), 1.0, 0.0)
    assert bool(torch.isfinite(emmet.adjusted_keys(factor, k, 1.0, 0.1)).all())


@pytest.mark.parametrize(("n", "past"), [(1, 0), (2, 3), (4, 20), (15, 2)])
def test_alphaedit(n: int, past: int) -> None:
    c, k, r = _moment(n), _normal(n, D_IN, n), _normal(n + 1, D_OUT, n)
    kp = _normal(n + 2, D_IN, past)
    vectors, values, _ = np.linalg.svd(c)
    below = vectors[:, values < 4.0]
    p = below @ below.T
    left = p @ (k @ k.T + kp @ kp.T) + 10.0 * np.eye(D_IN)
    expected = np.linalg.solve(left, p @ k @ r.T).T
    space = alphaedit.null_space(torch.tensor(c), 4.0, None)
    assert 0 < space.shape[1] < D_IN
    v = alphaedit.adjusted_keys(space, torch.tensor(k), torch.tensor(kp), 10.0)
    assert _close(torch.tensor(r) @ v.T, expected)


@pytest.mark.parametrize(("n", "past"), [(1, 0), (2, 3), (4, 20)])
@pytest.mark.parametrize("share", [0.5, 1.0])
def test_alphaedit_with_a_covariance(n: int, past: int, share: float) -> None:
    c, k, r = _moment(n), _normal(n, D_IN, n), _normal(n + 1, D_OUT, n)
    kp = _normal(n + 2, D_IN, past)
    vectors, _, _ = np.linalg.svd(c)
    below = vectors[:, D_IN - round(share * D_IN) :]
    p = below @ below.T
    left = p @ (k @ k.T + kp @ kp.T + 3.0 * c) + 10.0 * np.eye(D_IN)
    expected = np.linalg.solve(left, p @ k @ r.T).T
    space = alphaedit.null_space(torch.tensor(c), None, share)
    other = 3.0 * space.T @ torch.tensor(c) @ space
    v = alphaedit.adjusted_keys(space, torch.tensor(k), torch.tensor(kp), 10.0, other)
    assert _close(torch.tensor(r) @ v.T, expected)


def test_with_all_directions_and_no_past_alphaedit_with_a_covariance_is_memit() -> None:
    c, k = torch.tensor(_moment(0)), torch.tensor(_normal(0, D_IN, 3))
    space = alphaedit.null_space(c, None, 1.0)
    found = alphaedit.adjusted_keys(space, k, k[:, :0], 1e-9, 2.0 * space.T @ c @ space)
    assert torch.allclose(found, memit.adjusted_keys(factorize(c), k, 2.0), rtol=1e-6)


def test_a_renewed_null_space_leaves_out_where_past_keys_are() -> None:
    c, past = _moment(0), _normal(0, D_IN, 3)
    expected = c + 7.0 * (past @ past.T) / 3
    found = alphaedit.renewed_moment(torch.tensor(c), torch.tensor(past), 7.0)
    assert _close(found, expected)
    heavy = alphaedit.renewed_moment(torch.tensor(c), torch.tensor(past), 1e9)
    space = alphaedit.null_space(heavy, None, 0.5)
    assert float((space.T @ torch.tensor(past)).abs().max()) < 1e-6


def test_every_value_gets_the_anchors_length() -> None:
    z = _normal(0, 4, D_OUT)
    expected = 3.0 * z / np.linalg.norm(z, axis=1, keepdims=True)
    assert _close(anchored(torch.tensor(z), 3.0), expected)
    assert torch.equal(anchored(torch.tensor(z), None), torch.tensor(z))


def test_the_null_space_by_share_does_not_depend_on_the_scale_of_the_keys() -> None:
    c = torch.tensor(_moment(0))
    one, other = (alphaedit.null_space(scale * c, None, 0.5) for scale in (1.0, 1e6))
    assert one.shape == (D_IN, D_IN // 2)
    assert torch.allclose(one @ one.T, other @ other.T, atol=1e-9)
    with pytest.raises(UnusableStatistics, match="null_share"):
        alphaedit.null_space(c, 1e-9, None)


@settings(deadline=None)
@given(seed=st.integers(0, 10_000), n=st.integers(1, D_IN))
def test_emmet_without_a_ridge_meets_every_constraint(seed: int, n: int) -> None:
    k = torch.tensor(_normal(seed, D_IN, n))
    v = emmet.adjusted_keys(factorize(torch.tensor(_moment(seed))), k, 1.0, 0.0)
    assert torch.allclose(v.T @ k, torch.eye(n, dtype=torch.float64), atol=1e-4)


@settings(deadline=None)
@given(seed=st.integers(0, 10_000), n=st.integers(1, 30), data=st.data())
def test_the_order_of_edits_does_not_matter(seed: int, n: int, data: st.DataObject) -> None:
    k, r = torch.tensor(_normal(seed, D_IN, n)), torch.tensor(_normal(seed + 1, D_OUT, n))
    order = torch.tensor(data.draw(st.permutations(range(n))))
    factor = factorize(torch.tensor(_moment(seed)))
    space = alphaedit.null_space(torch.tensor(_moment(seed)), None, 0.5)
    none = torch.zeros(D_IN, 0, dtype=torch.float64)
    for columns in (
        lambda keys: memit.adjusted_keys(factor, keys, 2.0),
        lambda keys: emmet.adjusted_keys(factor, keys, 2.0, 0.1),
        lambda keys: alphaedit.adjusted_keys(space, keys, none, 1.0),
    ):
        one, other = r @ columns(k).T, r[:, order] @ columns(k[:, order]).T
        assert torch.allclose(one, other, rtol=1e-6, atol=1e-8)


@settings(deadline=None)
@given(seed=st.integers(0, 10_000), n=st.integers(1, 10))
def test_alphaedit_moves_nothing_outside_the_null_space(seed: int, n: int) -> None:
    c = torch.tensor(_moment(seed))
    space = alphaedit.null_space(c, None, 0.5)
    v = alphaedit.adjusted_keys(space, torch.tensor(_normal(seed, D_IN, n)), space[:, :0], 1.0)
    outside = torch.tensor(_normal(seed + 2, D_IN))
    outside -= space @ (space.T @ outside)
    assert float((v.T @ outside).abs().max()) < 1e-9
