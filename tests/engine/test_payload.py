"""What is sent to the workers: the sum of the live deltas of each parameter."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.weight_patchers.changes import COLUMNS, ROWS, delta, random_change
from vllm_edit.domain.errors import SwapFailed
from vllm_edit.engine.payload import CHUNK, PRISTINE, chunks, live_sums, pack, unpack
from weight_patchers import LowRank


@settings(deadline=None)
@given(ranks=st.lists(st.integers(0, 3), min_size=1, max_size=5), transposed=st.booleans())
def test_what_arrives_is_the_sum_of_the_changes(ranks: list[int], transposed: bool) -> None:
    changes = [random_change(seed, rank, transposed) for seed, rank in enumerate(ranks)]
    base = torch.randn(ROWS, COLUMNS, generator=torch.Generator().manual_seed(99)).half()
    sums, _ = unpack(pack(live_sums([delta(change) for change in changes], touched=())))
    (change,) = sums.values()
    total = sum(change.dense().T if transposed else change.dense() for change in changes)
    assert change.shape == base.shape
    assert change.left.shape[1] == sum(ranks)
    assert (change.dense is None) == (0 not in ranks)
    assert change.added_to(base).dtype == torch.float32
    torch.testing.assert_close(change.added_to(base), base.float() + total)


def test_a_parameter_without_live_deltas_is_pristine() -> None:
    sums, _ = unpack(pack(live_sums([delta(random_change(0, 0, False))], touched=("v", "w"))))
    assert {name: change.is_empty for name, change in sums.items()} == {"v": True, "w": False}
    assert live_sums([], touched=("v",)) == {"v": PRISTINE}


@pytest.mark.parametrize("rank", [0, 1])
def test_changes_of_different_matrices_are_refused(rank: int) -> None:
    changes = [random_change(0, 0, transposed=False), random_change(1, rank, transposed=True)]
    sums = live_sums([delta(change) for change in changes], touched=())
    assert sums["w"].shape == (ROWS, COLUMNS)
    other = random_change(1, rank, transposed=False)
    square = LowRank(torch.ones(ROWS, 1), torch.ones(ROWS, 1))
    with pytest.raises(SwapFailed, match="different shapes"):
        live_sums([delta(other), delta(square)], touched=())


@settings(deadline=None)
@given(order=st.permutations(range(5)))
def test_the_payload_does_not_depend_on_the_order(order: list[int]) -> None:
    changes = [random_change(seed, rank=seed % 3, transposed=False) for seed in range(5)]
    payloads = [
        pack(live_sums([delta(changes[number]) for number in numbers], touched=()))
        for numbers in (range(5), order)
    ]
    assert payloads[0] == payloads[1]


@pytest.mark.parametrize("size", [0, 1, CHUNK, 2 * CHUNK + 1])
def test_long_payloads_are_sent_in_parts(size: int) -> None:
    data = bytes(range(256)) * (size // 256 + 1)
    parts = list(chunks(data[:size]))
    assert b"".join(parts) == data[:size]
    assert all(len(part) <= CHUNK for part in parts)
    assert len(parts) == max(1, -(-size // CHUNK))
