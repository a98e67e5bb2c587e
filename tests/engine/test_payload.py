"""What is sent to the workers: the live deltas of a parameter, summed in its own orientation."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from vllm_edit.domain.errors import SwapFailed
from vllm_edit.engine.payload import CHUNK, PRISTINE, chunks, join, pack, total, unpack
from weight_patchers import Delta, Dense, LowRank, ParameterChange

ROWS, COLUMNS = 3, 5


def random_change(seed: int, rank: int, transposed: bool) -> ParameterChange:
    """Of rank `rank`; 0 stands for a dense one."""
    generator = torch.Generator().manual_seed(seed)
    d_out, d_in = (COLUMNS, ROWS) if transposed else (ROWS, COLUMNS)
    if rank == 0:
        return Dense(torch.randn(d_out, d_in, generator=generator), transposed)
    u = torch.randn(d_out, rank, generator=generator)
    return LowRank(u, torch.randn(d_in, rank, generator=generator), transposed)


def delta(change: ParameterChange, name: str = "w") -> Delta:
    return Delta("any", "ft-l", {}, {name: change}, ())


@settings(deadline=None)
@given(ranks=st.lists(st.integers(0, 3), min_size=1, max_size=5), transposed=st.booleans())
def test_what_arrives_is_the_sum_of_the_changes(ranks: list[int], transposed: bool) -> None:
    changes = [random_change(seed, rank, transposed) for seed, rank in enumerate(ranks)]
    base = torch.randn(ROWS, COLUMNS, generator=torch.Generator().manual_seed(99)).half()
    (update,) = unpack(pack(total([delta(change) for change in changes], touched=()))).values()
    wanted = sum(change.dense().T if transposed else change.dense() for change in changes)
    assert update.shape == base.shape
    assert update.left.shape[1] == sum(ranks)
    assert (update.dense is None) == (0 not in ranks)
    assert update.added_to(base).dtype == torch.float32
    torch.testing.assert_close(update.added_to(base), base.float() + wanted)


def test_one_dense_change_is_added_as_it_is() -> None:
    base, change = torch.randn(ROWS, COLUMNS), random_change(0, 0, transposed=False)
    assert isinstance(change, Dense)
    (update,) = total([delta(change)], touched=("w",)).values()
    assert torch.equal(update.added_to(base), base + change.update)


def test_a_parameter_without_live_deltas_is_pristine() -> None:
    updates = unpack(pack(total([delta(random_change(0, 0, False))], touched=("v", "w"))))
    assert {name: update.is_pristine for name, update in updates.items()} == {"v": True, "w": False}
    assert join([]) is PRISTINE


@pytest.mark.parametrize("rank", [0, 1])
def test_changes_of_different_matrices_are_refused(rank: int) -> None:
    changes = [random_change(0, 0, transposed=False), random_change(1, rank, transposed=True)]
    assert total([delta(change) for change in changes], touched=())["w"].shape == (ROWS, COLUMNS)
    other = random_change(1, rank, transposed=False)
    square = LowRank(torch.ones(ROWS, 1), torch.ones(ROWS, 1))
    with pytest.raises(SwapFailed, match="different shapes"):
        total([delta(other), delta(square)], touched=())


@settings(deadline=None)
@given(order=st.permutations(range(5)))
def test_the_sum_does_not_depend_on_the_order(order: list[int]) -> None:
    changes = [random_change(seed, rank=seed % 3, transposed=False) for seed in range(5)]
    sums = [
        total([delta(changes[number]) for number in numbers], touched=())
        for numbers in (range(5), order)
    ]
    assert pack(sums[0]) == pack(sums[1])


@pytest.mark.parametrize("size", [0, 1, CHUNK, 2 * CHUNK + 1])
def test_long_payloads_are_sent_in_parts(size: int) -> None:
    data = bytes(range(256)) * (size // 256 + 1)
    parts = list(chunks(data[:size]))
    assert b"".join(parts) == data[:size]
    assert all(len(part) <= CHUNK for part in parts)
    assert len(parts) == max(1, -(-size // CHUNK))
