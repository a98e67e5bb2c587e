"""One sum of deltas, the same in any order, for exports, the engine and the editor."""

import itertools
from collections.abc import Sequence

import pytest
import torch

from tests.weight_patchers.changes import COLUMNS, ROWS, delta, random_change
from weight_patchers import Dense, LowRank, Neurons
from weight_patchers.delta_sum import DeltaSum, join_neurons, sum_deltas
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


def units(seed: int, count: int, *names: str) -> Neurons:
    generator = torch.Generator().manual_seed(seed)
    parts = {name: torch.randn(4, count, generator=generator) for name in names if name != "b"}
    if "b" in names:
        parts["b"] = torch.randn(count, generator=generator)
    return Neurons(**parts)


@pytest.mark.parametrize("names", ["kv", "kbv", "guv"])
def test_extra_units_stand_side_by_side_in_one_order(names: str) -> None:
    each = [units(seed, seed + 1, *names) for seed in range(3)]
    joined = [
        join_neurons([delta(change, "mlp") for change in order])["mlp"].parts()
        for order in itertools.permutations(each)
    ]
    assert joined[0].keys() == set(names)
    for part, tensor in joined[0].items():
        assert tensor.shape[-1] == 6
        assert all(torch.equal(other[part], tensor) for other in joined)
        for own in (change.parts()[part] for change in each):
            assert any(
                torch.equal(own, piece)
                for piece in tensor.unfold(-1, own.shape[-1], 1).movedim(-2, 0)
            )


def test_units_without_a_bias_get_none_beside_those_with_one() -> None:
    with_bias, without = units(0, 2, *"kbv"), units(1, 1, *"kv")
    joined = join_neurons([delta(with_bias, "mlp"), delta(without, "mlp")])["mlp"]
    assert joined.b is not None
    assert with_bias.b is not None
    assert sorted(joined.b.tolist()) == sorted([*with_bias.b.tolist(), 0.0])
    assert join_neurons([]) == {}
    assert sum_deltas([delta(without, "mlp")]) == {}


@pytest.mark.parametrize(
    "other", [units(1, 1, *"guv"), Neurons(k=torch.ones(5, 1), v=torch.ones(5, 1))]
)
def test_extra_units_of_different_models_are_refused(other: Neurons) -> None:
    with pytest.raises(WrongBase, match="different widths or forms"):
        join_neurons([delta(units(0, 1, *"kv"), "mlp"), delta(other, "mlp")])
