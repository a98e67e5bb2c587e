"""Extra inner units beside a model's MLPs: their output, and that nothing else changes."""

import itertools
from collections.abc import Callable

import numpy as np
import pytest
import torch
from transformers import PreTrainedModel

from tests.weight_patchers.changes import delta
from tests.weight_patchers.conftest import DENSE, MIXTURES
from weight_patchers import LowRank, Neurons, applied
from weight_patchers.errors import UnsupportedModel, WrongBase
from weight_patchers.model.extra_units import activations, attached
from weight_patchers.model.mlp import Mlp, mlp

BuildModel = Callable[..., PreTrainedModel]

INPUTS = torch.tensor([[5, 17, 42, 3, 99, 8], [7, 7, 1, 0, 3, 2]])
LAYER = 1


def units(target: Mlp, count: int, seed: int = 0, scale: float = 0.5) -> Neurons:
    generator = torch.Generator().manual_seed(seed)
    names = "guv" if target.gated else "kv"
    shape = (target.output.d_out, count)
    parts = {name: torch.randn(shape, generator=generator) * scale for name in names}
    if target.biased and not target.gated:
        parts["b"] = torch.randn(count, generator=generator)
    return Neurons(**parts)


def logits(model: PreTrainedModel) -> torch.Tensor:
    with torch.no_grad():
        found: torch.Tensor = model(INPUTS).logits
    return found


def silu(x: np.ndarray) -> np.ndarray:
    return np.asarray(x / (1 + np.exp(-x)))


@pytest.mark.parametrize("names", ["kv", "kbv", "guv"])
def test_what_a_unit_computes(names: str) -> None:
    """Against plain NumPy in float64."""
    rng = np.random.default_rng(0)
    exact = {name: rng.standard_normal((5, 3)) for name in names}
    if "b" in names:
        exact["b"] = rng.standard_normal(3)
    hidden = rng.standard_normal((2, 4, 5))
    parts = {name: torch.from_numpy(part) for name, part in exact.items()}
    found = activations(parts, torch.from_numpy(hidden), torch.nn.functional.silu)
    if "g" in names:
        expected = silu(hidden @ exact["g"]) * (hidden @ exact["u"])
    else:
        expected = silu(hidden @ exact["k"] + exact.get("b", 0.0))
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-12)


@pytest.mark.parametrize("family", DENSE)
def test_units_add_what_they_compute_to_the_mlp(build_model: BuildModel, family: str) -> None:
    """Of every family the MLP's input, activation and output are the right ones.

    A unit that is a copy of one the MLP has, negated, takes that one's output away: as if the
    output projection had a column of zeros.
    """
    model = build_model(family).eval()
    target = mlp(model, LAYER)
    copied = 7
    rows = [_rows(module) for module in target.inner.values()]
    width = target.output.d_in
    if target.fused:
        rows = [rows[0][:width], rows[0][width:]]
    v = -target.output.matrix()[:, [copied]]
    first = rows[0][[copied]].T.clone()
    if target.gated:
        copy = Neurons(v=v, g=first, u=rows[1][[copied]].T.clone())
    else:
        bias = target.first.bias if target.biased else None
        copy = Neurons(v=v, k=first, b=None if bias is None else bias.detach()[[copied]].clone())
    with attached(model, {target.name: copy}):
        found = logits(model)
    matrix = target.output.matrix()
    matrix[:, copied] = 0
    target.output.write(matrix)
    torch.testing.assert_close(found, logits(model), rtol=1e-4, atol=1e-4)


def _rows(module: torch.nn.Module) -> torch.Tensor:
    weight = module.weight.detach()
    assert isinstance(weight, torch.Tensor)
    return weight if isinstance(module, torch.nn.Linear) else weight.T


@pytest.mark.parametrize("family", DENSE)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_units_that_are_taken_away_leave_nothing(
    build_model: BuildModel, family: str, dtype: torch.dtype
) -> None:
    model = build_model(family, dtype).eval()
    before, target = logits(model), mlp(model, LAYER)
    with attached(model, {target.name: units(target, 3)}):
        assert not torch.allclose(logits(model), before, atol=1e-2)
    assert torch.equal(logits(model), before)
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())


@pytest.mark.parametrize("family", DENSE)
@pytest.mark.parametrize("zero", ["v", "all"])
def test_units_that_write_nothing_change_nothing(
    build_model: BuildModel, family: str, zero: str
) -> None:
    model = build_model(family).eval()
    before, target = logits(model), mlp(model, LAYER)
    parts = units(target, 3).parts()
    blank = {name: torch.zeros_like(part) for name, part in parts.items() if zero in (name, "all")}
    with attached(model, {target.name: Neurons(**parts | blank)}):
        assert torch.equal(logits(model), before)


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_deltas_are_applied_in_any_order(build_model: BuildModel, family: str) -> None:
    """Units beside changes of the same MLP's output projection; undone bit for bit."""
    model = build_model(family).eval()
    target = mlp(model, LAYER)
    output = target.output
    change = LowRank(torch.ones(output.d_out, 1), torch.ones(output.d_in, 1), output.transposed)
    deltas = [delta(units(target, n + 1, seed=n), target.name) for n in range(3)]
    deltas.append(delta(change, output.name))
    before = logits(model)
    found = []
    for order in itertools.permutations(deltas):
        with applied(model, order):
            found.append(logits(model))
    assert all(torch.equal(other, found[0]) for other in found)
    assert not torch.allclose(found[0], before, atol=1e-2)
    assert torch.equal(logits(model), before)


@pytest.mark.parametrize("family", MIXTURES)
def test_a_mixture_of_experts_gets_no_units(build_model: BuildModel, family: str) -> None:
    with pytest.raises(UnsupportedModel, match="mixture of experts"):
        mlp(build_model(family), 0)


def test_an_mlp_with_more_in_it_gets_no_units(build_model: BuildModel) -> None:
    model = build_model("llama")
    model.get_submodule("model.layers.1.mlp").add_module("norm", torch.nn.LayerNorm(48))
    with pytest.raises(UnsupportedModel, match=r"model\.layers\.1\.mlp is neither a plain MLP nor"):
        mlp(model, 1)
    assert mlp(model, 0).gated


@pytest.mark.parametrize(
    ("name", "change", "complaint"),
    [
        ("model.layers.9.mlp", Neurons(**dict.fromkeys("guv", torch.ones(32, 1))), "is no MLP"),
        ("model.layers.1", Neurons(**dict.fromkeys("guv", torch.ones(32, 1))), "is no MLP"),
        ("model.layers.1.mlp", Neurons(**dict.fromkeys("guv", torch.ones(8, 1))), "do not fit"),
        ("model.layers.1.mlp", Neurons(**dict.fromkeys("kv", torch.ones(32, 1))), "do not fit"),
    ],
)
def test_units_of_another_model_are_refused(
    build_model: BuildModel, name: str, change: Neurons, complaint: str
) -> None:
    model = build_model("llama")
    with pytest.raises(WrongBase, match=complaint), applied(model, [delta(change, name)]):
        pass


def test_units_have_the_models_own_activation(build_model: BuildModel) -> None:
    target = mlp(build_model("gptj", activation_function="relu"), 0)
    assert target.activation(torch.tensor([-1.0, 2.0])).tolist() == [0.0, 2.0]
    assert target.biased
