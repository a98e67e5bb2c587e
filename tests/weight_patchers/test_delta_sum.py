"""One sum of deltas, the same in any order, for exports, the engine and the editor."""

import itertools
from collections.abc import Sequence

import pytest
import torch

from tests.weight_patchers.changes import COLUMNS, ROWS, delta, random_change
from weight_patchers import Dense, LowRank
from weight_patchers.delta_sum import DeltaSum, sum_deltas
from weight_patchers.errors import WrongBase


def test_one_dense_change_is_added_as_it_is() -> None:
    base, change = torch.randn(ROWS, COLUMNS), random_change(0, 0, transposed=False)
    assert isinstance(change, Dense)
    summed = sum_deltas([delta(change)])["w"]
    assert torch.equal(summed.added_to(base), base + change.update)


@pytest.mark.parametrize("ranks", [(1, 2, 3), (0, 0, 0), (2, 0, 1)])
@pytest.mark.parametrize("transposed", [False, True])
def test_the_norm_is_that_of_the_total(ranks: Sequence[int], transposed: bool) -> None:
    summed = DeltaSum.of([random_change(n, rank, transposed) for n, rank in enumerate(ranks)])
    torch.testing.assert_close(summed.norm(), summed.total().double().norm())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_no_order_of_the_changes_shows(dtype: torch.dtype) -> None:
    """Of both orientations, since the sum has that of the checkpoint."""
    changes = [random_change(n, n % 3, transposed=n % 2 == 1) for n in range(5)]
    base = torch.randn(ROWS, COLUMNS, generator=torch.Generator().manual_seed(9)).to(dtype)
    served = [DeltaSum.of(order).added_to(base) for order in itertools.permutations(changes)]
    assert all(torch.equal(weight, served[0]) for weight in served)


def test_changes_of_different_matrices_are_refused() -> None:
    with pytest.raises(WrongBase, match="different shapes"):
        DeltaSum.of([random_change(0, 1, False), LowRank(torch.ones(3, 1), torch.ones(3, 1))])
