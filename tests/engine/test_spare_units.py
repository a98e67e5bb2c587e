"""The side module that adds extra units, held to their formula, and the budget of spare units."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from tests.engine.extra_units import random_neurons
from vllm_edit.domain.errors import NoSpareUnits, SwapFailed
from vllm_edit.engine.extra_units import ExtraUnits, UnitsExchange
from vllm_edit.engine.metrics import UNITS
from vllm_edit.engine.mlp_form import MlpForm
from vllm_edit.engine.payload import FREED, Content, Live, live_neurons, pack, unpack
from vllm_edit.engine.spare_units import chosen_layers
from vllm_edit.engine.unit_budget import publish, require_spare
from weight_patchers import Delta, Neurons

WIDTH, COUNT, MLP = 12, 5, "layers.0.mlp"


def silu_and_mul(joined: Tensor) -> Tensor:
    gate, up = joined.chunk(2, dim=-1)
    return functional.silu(gate) * up


def made(gated: bool, dtype: torch.dtype = torch.float32) -> ExtraUnits:
    form = MlpForm(WIDTH, gated, silu_and_mul if gated else functional.relu)
    return ExtraUnits(MLP, form, COUNT, dtype, torch.device("cpu"))


def rows(seed: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(7, WIDTH, generator=torch.Generator().manual_seed(seed)).to(dtype)


def golden(neurons: Neurons, hidden: Tensor, output: Tensor) -> Any:
    """MLP'(h) = MLP(h) + v a(h), float64."""
    part = {name: value.double().numpy() for name, value in neurons.parts().items()}
    h = hidden.double().numpy()
    if neurons.gated:
        gate = h @ part["g"]
        inner = gate / (1 + np.exp(-gate)) * (h @ part["u"])
    else:
        inner = np.maximum(h @ part["k"] + part.get("b", 0.0), 0.0)
    return output.double().numpy() + inner @ part["v"].T


@pytest.mark.parametrize(("gated", "bias"), [(False, False), (False, True), (True, False)])
@pytest.mark.parametrize("count", [1, COUNT])
def test_units_add_what_their_formula_says(gated: bool, bias: bool, count: int) -> None:
    units, neurons = made(gated), random_neurons(0, count, WIDTH, gated, bias)
    UnitsExchange(units, neurons).exchange()
    found = units(rows(1), rows(2))
    np.testing.assert_allclose(found, golden(neurons, rows(1), rows(2)), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("gated", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_unused_units_leave_every_bit(gated: bool, dtype: torch.dtype) -> None:
    units, output = made(gated, dtype), rows(2, dtype)
    output[0] = 0.0
    output[1] = -0.0
    exchange = UnitsExchange(units, random_neurons(0, 2, WIDTH, gated))
    for _ in range(2):
        found = units(rows(1, dtype), output)
        assert torch.equal(found.view(torch.uint8), output.view(torch.uint8))
        exchange.exchange()
        assert not torch.equal(units(rows(1, dtype), output), output)
        exchange.exchange()


def test_an_exchange_is_undone_in_the_same_storage() -> None:
    units = made(gated=True)
    before, places = units.digest(), [p.data_ptr() for p in units.parameters()]
    exchange = UnitsExchange(units, random_neurons(0, 3, WIDTH, gated=True))
    exchange.exchange()
    assert units.digest() != before
    exchange.undo()
    exchange.undo()
    assert units.digest() == before
    assert [p.data_ptr() for p in units.parameters()] == places


def test_units_left_half_written_or_changed_meanwhile_are_not_undone() -> None:
    units = made(gated=True)
    exchange = UnitsExchange(units, random_neurons(0, 3, WIDTH, gated=True))
    exchange.exchange()
    exchange._aside["outputs"] = torch.zeros(1, 1)
    with pytest.raises(RuntimeError):
        exchange.exchange()
    with pytest.raises(SwapFailed, match="half-written"):
        exchange.undo()


def test_units_that_cannot_be_served_are_refused() -> None:
    units = made(gated=True, dtype=torch.float16)
    bad = {
        "another model": random_neurons(0, 1, WIDTH, gated=False),
        "5 spare units, not 6": random_neurons(0, 6, WIDTH, gated=True),
        "not finite in torch.float16": replace(
            random_neurons(0, 1, WIDTH, gated=True), v=torch.full((WIDTH, 1), 1e6)
        ),
    }
    for reason, neurons in bad.items():
        with pytest.raises(SwapFailed, match=reason):
            UnitsExchange(units, neurons)


def delta(neurons: Neurons) -> Delta:
    return Delta("any", "t-patcher", {}, {MLP: neurons}, ())


def test_what_arrives_are_all_live_units_or_none() -> None:
    deltas = [delta(random_neurons(seed, 2, WIDTH, False, bias=seed == 1)) for seed in range(3)]
    sent = [pack({}, live_neurons(order, ("other",))) for order in (deltas, deltas[::-1])]
    assert sent[0] == sent[1]
    sums, neurons = unpack(sent[0])
    assert sums == {}
    assert {name: units.count for name, units in neurons.items()} == {MLP: 6, "other": 0}
    assert neurons["other"].parts().keys() == FREED.parts().keys()


def test_a_swap_frees_the_units_of_what_was_live_before() -> None:
    one = Content.of([delta(random_neurons(0, 2, WIDTH, gated=True))], Live())
    assert one.used == {MLP: 2}
    assert one.live == Live(mlps=frozenset({MLP}))
    none = Content.of([], one.live)
    assert none.names == [MLP]
    assert none.used == {MLP: 0}
    assert none.live == Live()
    with pytest.raises(SwapFailed, match="different widths or forms"):
        Content.of([delta(random_neurons(0, 1, WIDTH, gated)) for gated in (True, False)], Live())


def test_an_mlp_without_room_is_named_with_what_is_needed() -> None:
    require_spare({MLP: 4}, {MLP: 4})
    with pytest.raises(NoSpareUnits) as caught:
        require_spare({MLP: 5}, {MLP: 4})
    assert caught.value.code == "no_spare_units"
    assert "need 5 spare inner units" in caught.value.message
    assert "--edit-spare-units 5" in caught.value.message
    assert "--edit-spare-layers" not in caught.value.message
    with pytest.raises(NoSpareUnits, match=r"0 there\. .*--edit-spare-layers"):
        require_spare({MLP: 1}, {})


def test_used_and_free_units_are_on_record() -> None:
    publish({MLP: 3}, {MLP: 4, "other": 4})
    (metric,) = UNITS.collect()
    found = {(s.labels["mlp"], s.labels["state"]): s.value for s in metric.samples}
    assert {(MLP, "used"): 3, (MLP, "free"): 1, ("other", "free"): 4}.items() <= found.items()


def test_layers_that_are_named_come_before_those_of_the_methods() -> None:
    assert chosen_layers("4,11", None) == [4, 11]  # type: ignore[arg-type]
