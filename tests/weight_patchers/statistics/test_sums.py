"""Sums of outer products, and how well their error tells the true one."""

import math

import pytest
import torch

from weight_patchers.statistics.sums import Sums

WIDTH = 40


def _sums(batches: list[torch.Tensor]) -> Sums:
    sums = Sums.zero({3: WIDTH})
    for keys in batches:
        sums.add({3: keys})
    return sums


def _draw(count: int, seed: int) -> torch.Tensor:
    """Keys whose coordinates differ in scale by orders of magnitude; their moment is diagonal."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(count, WIDTH, generator=generator) * torch.logspace(0, -2, WIDTH)


def test_the_moment_is_the_mean_over_all_batches() -> None:
    batches = [_draw(count, seed) for seed, count in enumerate((5, 300, 17, 64, 1))]
    moments, _ = _sums(batches).finish()
    keys = torch.cat(batches).double()
    assert moments[3].dtype == torch.float32
    torch.testing.assert_close(moments[3].double(), keys.T @ keys / len(keys), rtol=1e-5, atol=1e-9)


@pytest.mark.parametrize("counts", [(100,) * 16, (500, 20) * 8, (100,) * 5])
def test_the_error_is_that_against_the_true_moment(counts: tuple[int, ...]) -> None:
    true = torch.diag(torch.logspace(0, -4, WIDTH))
    actual, stated = [], []
    for trial in range(200):
        moments, errors = _sums(
            [_draw(count, 1000 * trial + i) for i, count in enumerate(counts)]
        ).finish()
        actual.append(float((moments[3] - true).norm() / moments[3].norm()) ** 2)
        stated.append(errors[3] ** 2)
    assert sum(stated) == pytest.approx(sum(actual), rel=0.15)


def test_with_equal_halves_the_error_is_half_their_distance() -> None:
    batches = [_draw(100, seed) for seed in range(4)]
    moments, errors = _sums(batches).finish()
    halves = [torch.cat(batches[start::2]).double() for start in (0, 1)]
    even, odd = (keys.T @ keys / len(keys) for keys in halves)
    assert errors[3] == pytest.approx(float((even - odd).norm() / moments[3].norm()) / 2, rel=1e-4)


def test_one_batch_tells_nothing_about_the_error() -> None:
    assert _sums([_draw(100, 0)]).finish()[1] == {3: math.inf}
