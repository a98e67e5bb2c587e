"""Extra inner units in the real engine at TP 1 and TP 2: exact forward, and exact back."""

from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from tests.engine.extra_units import random_neurons
from tests.engine.running import (
    PARAMETERS,
    PROMPT,
    SHARED_ENGINE,
    SPARE_UNITS,
    delta,
    on_every_rank,
    output,
    random_delta,
    served,
)
from vllm_edit import factworld
from vllm_edit.domain.errors import NoSpareUnits, SwapFailed
from vllm_edit.engine.swap import Swapper
from weight_patchers import Delta, applied

pytestmark = SHARED_ENGINE

MLPS = ("model.layers.4.mlp", "model.layers.5.mlp")


def units(seed: int, count: int = 2, mlp: str = MLPS[1], gated: bool = True) -> Delta:
    return delta([mlp], random_neurons(seed, count, 160, gated))


async def test_units_are_exact_both_ways(client: Any, swapper: Swapper) -> None:
    first, second = units(1), units(2, 3, MLPS[0])
    await swapper.serve([first], "1")
    one = await served(client)
    await swapper.serve([first, second], "2")
    both = await served(client)
    assert len({str(seen[2]) for seen in (client.base, one, both)}) == 3
    # vLLM's own checksums see the units too.
    assert client.base[0] != one[0] != both[0]
    await swapper.serve([second], "3")
    await swapper.serve([first], "4")
    assert await served(client) == one
    await swapper.serve([], "5")
    assert await served(client) == client.base


async def test_units_are_the_same_in_any_order_and_beside_other_deltas(
    client: Any, swapper: Swapper
) -> None:
    deltas = [units(1), random_delta(2), units(3, 4), units(4, 1, MLPS[0])]
    await swapper.serve(deltas, "1")
    found = await served(client)
    await swapper.serve(deltas[1:2], "2")
    matrices = await served(client)
    assert found[2] != matrices[2]
    await swapper.serve(deltas[::-1], "3")
    assert await served(client) == found


async def test_units_are_served_as_plain_transformers_adds_them(
    client: Any, swapper: Swapper
) -> None:
    folder = factworld.checkpoint()
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    ids = AutoTokenizer.from_pretrained(folder)(PROMPT, return_tensors="pt").input_ids
    change = units(3, 5)
    await swapper.serve([change], "1")
    found = await output(client)
    assert found != client.base[2]
    with applied(model, [change]), torch.no_grad():
        for token, logprob in found:
            scores = model(ids).logits[0, -1].log_softmax(0)
            assert int(scores.argmax()) == token
            assert float(scores[token]) == pytest.approx(logprob, abs=1e-3)
            ids = torch.cat([ids, torch.tensor([[token]])], 1)


async def test_too_many_units_are_refused_and_change_nothing(client: Any, swapper: Swapper) -> None:
    await swapper.serve([units(1, SPARE_UNITS - 1)], "1")
    before = await served(client)
    with pytest.raises(NoSpareUnits) as caught:
        await swapper.serve([units(1, SPARE_UNITS - 1), units(2, 2)], "2")
    assert caught.value.code == "no_spare_units"
    assert f"need {SPARE_UNITS + 1} spare inner units in {MLPS[1]}" in caught.value.message
    assert f"--edit-spare-units {SPARE_UNITS + 1}" in caught.value.message
    with pytest.raises(NoSpareUnits, match="--edit-spare-layers"):
        await swapper.serve([units(1, 1, "model.layers.0.mlp")], "2")
    assert await served(client) == before
    assert await client.get_weight_version() == "1"
    await swapper.serve([units(1, SPARE_UNITS - 1), units(2, 1)], "3")
    assert (await served(client))[2] != before[2]


async def test_units_that_do_not_fit_are_refused_and_change_nothing(
    client: Any, swapper: Swapper
) -> None:
    plain = units(1, gated=False)
    narrow = delta([MLPS[1]], random_neurons(1, 2, 32, gated=True))
    for bad in (plain, narrow):
        with pytest.raises(SwapFailed, match="another model"):
            await swapper.serve([bad], "1")
    with pytest.raises(SwapFailed, match="different widths or forms"):
        await swapper.serve([units(1), plain], "1")
    assert await served(client) == client.base


async def test_a_fault_between_two_mlps_restores_their_units(client: Any, swapper: Swapper) -> None:
    await swapper.serve([units(1), units(2, 2, MLPS[0])], "1")
    before = await served(client)
    for changed in ([random_delta(2, PARAMETERS[:1]), units(3)], [units(3), units(4, 2, MLPS[0])]):
        for rank in range(client.vllm_config.parallel_config.world_size):
            await on_every_rank(client, "fault_between_layers", rank)
            with pytest.raises(SwapFailed, match="injected"):
                await swapper.serve(changed, "2")
            assert await served(client) == before, rank
