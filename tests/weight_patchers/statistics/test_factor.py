import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from weight_patchers.errors import UnusableStatistics
from weight_patchers.statistics.factor import MAX_CONDITION, factorize


def _with_eigenvalues(values: torch.Tensor, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    size = len(values)
    q = torch.linalg.qr(torch.randn(size, size, dtype=torch.float64, generator=generator))[0]
    return (q * values) @ q.T


@settings(deadline=None)
@given(seed=st.integers(0, 1000), decades=st.floats(0, 6))
def test_a_well_conditioned_system_is_solved_exactly(seed: int, decades: float) -> None:
    values = torch.logspace(0, -decades, 12, dtype=torch.float64)
    matrix = _with_eigenvalues(values, seed)
    right = torch.arange(24, dtype=torch.float64).reshape(12, 2)
    factor = factorize(matrix)
    assert factor.ridge == 0.0
    assert factor.condition == pytest.approx(10**decades, rel=0.5)
    assert torch.allclose(matrix @ factor.solve(right), right, atol=1e-6)
    assert torch.allclose(matrix @ factor.solve(right[:, 1]), right[:, 1], atol=1e-6)


@pytest.mark.parametrize("smallest", [0.0, -1e-9, -1e-4, 1e-12])
def test_a_singular_system_gets_the_smallest_sufficient_ridge(smallest: float) -> None:
    values = torch.cat([torch.linspace(1, 5, 10), torch.full((3,), smallest)]).double()
    factor = factorize(_with_eigenvalues(values))
    assert 0 < factor.ridge <= 2 * (max(0.0, -smallest) + 2 * 5 / MAX_CONDITION)
    assert factor.condition <= MAX_CONDITION * 1.001
    assert bool(torch.isfinite(factor.solve(torch.ones(13))).all())


def test_what_cannot_be_repaired_is_an_error_that_names_the_cause() -> None:
    with pytest.raises(UnusableStatistics, match="not finite"):
        factorize(torch.full((3, 3), torch.inf))
    with pytest.raises(UnusableStatistics, match="all zero"):
        factorize(torch.zeros(3, 3))
    with pytest.raises(UnusableStatistics, match="not square"):
        factorize(torch.zeros(3, 2))
