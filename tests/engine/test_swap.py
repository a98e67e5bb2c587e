"""The swap itself, on the real engine at TP 1 and TP 2: exact forward, and exact back."""

from typing import Any

import pytest
import torch

from tests.engine.running import (
    LAYER,
    PARAMETERS,
    SHARED_ENGINE,
    delta,
    dense_delta,
    output,
    random_delta,
    served,
)
from vllm_edit.domain.errors import SwapFailed
from vllm_edit.engine.swap import Swapper
from weight_patchers import Delta, Dense, LowRank

pytestmark = SHARED_ENGINE


async def test_a_swap_is_exact_both_ways(client: Any, swapper: Swapper) -> None:
    first, second = random_delta(1), random_delta(2, PARAMETERS[:1])
    await swapper.serve([first], "1")
    assert await client.get_weight_version() == "1"
    one = await served(client)
    await swapper.serve([first, second], "2")
    both = await served(client)
    assert len({str(seen) for seen in (client.base, one, both)}) == 3
    await swapper.serve([second], "3")
    await swapper.serve([first], "4")
    assert await served(client) == one
    await swapper.serve([], "5")
    assert await served(client) == client.base
    assert await client.get_weight_version() == "5"


async def test_what_is_served_is_a_function_of_the_set(client: Any, swapper: Swapper) -> None:
    deltas = [random_delta(seed, rank=seed % 3 + 1) for seed in range(5)]
    await swapper.serve(deltas, "1")
    found = await served(client)
    await swapper.serve(deltas[:2], "2")
    assert await served(client) != found
    await swapper.serve(deltas[::-1], "3")
    assert await served(client) == found


async def test_dense_and_low_rank_deltas_add_up(client: Any, swapper: Swapper) -> None:
    first, second = random_delta(1, PARAMETERS[:1]), random_delta(2, PARAMETERS[:1])
    third = random_delta(3, PARAMETERS[:1])
    await swapper.serve([dense_delta(third)], "1")
    full = await served(client)
    await swapper.serve([third], "2")
    assert await served(client) == full
    await swapper.serve([dense_delta(third), second, dense_delta(first)], "3")
    beside = await served(client)
    await swapper.serve([second, dense_delta(first, third)], "4")
    assert await served(client) == beside
    assert beside != full


def _bad() -> dict[str, Delta]:
    shape = random_delta(1).changes[PARAMETERS[0]].shape
    one = LowRank(torch.ones(1, 1), torch.ones(1, 1))
    return {
        "no tensor named": delta([LAYER.format(99)], one),
        "computed for another model": delta(
            PARAMETERS[:1], LowRank(torch.ones(3, 1), torch.ones(5, 1))
        ),
        "base tensor is": delta([LAYER.format(3)], Dense(torch.ones(3, 5))),
        "not finite": delta(PARAMETERS[:1], Dense(torch.full(shape, 3e38))),
        "only weights of unquantised linear layers": delta(
            ["model.embed_tokens.weight"], Dense(torch.ones(1443, 160))
        ),
        "another base": Delta("other", "rome", {}, {PARAMETERS[0]: one}, ()),
    }


async def test_what_does_not_fit_is_refused_and_changes_nothing(
    client: Any, swapper: Swapper
) -> None:
    first = random_delta(1)
    await swapper.serve([first], "1")
    before = await served(client)
    for reason, bad in _bad().items():
        with pytest.raises(SwapFailed, match=reason):
            await swapper.serve([first, bad, bad], "2")
        assert await served(client) == before, reason
    assert await client.get_weight_version() == "1"


async def test_large_deltas_are_staged_in_parts(client: Any, swapper: Swapper) -> None:
    wide = random_delta(1, rank=900)
    change = wide.changes[PARAMETERS[0]]
    await swapper.serve([wide], "1")
    found = await output(client)
    dense = [delta([name], Dense(change.dense())) for name in PARAMETERS]
    await swapper.serve(dense, "2")
    same = await output(client)
    assert [token for token, _ in same] == [token for token, _ in found]
    assert [p for _, p in same] == pytest.approx([p for _, p in found], abs=1e-2)


async def test_ranks_agree_however_many_they_are(
    client: Any, swapper: Swapper, outputs: list[list[tuple[int, float]]]
) -> None:
    await swapper.serve([random_delta(1)], "1")
    found = await output(client)
    outputs.append(found)
    for other in outputs:
        assert [token for token, _ in other] == [token for token, _ in found]
        assert [p for _, p in other] == pytest.approx([p for _, p in found], abs=1e-3)


@pytest.fixture(scope="session")
def outputs() -> list[list[tuple[int, float]]]:
    """What the engines of the session answered under one and the same delta."""
    return []
