"""MEND's network against its formula in NumPy, float64."""

import numpy as np
import pytest
import torch

from weight_patchers.errors import UntrainedEditor
from weight_patchers.mend.editor import MendEditor, Network
from weight_patchers.mend.hparams import MendHparams
from weight_patchers.mend.moments import Moments
from weight_patchers.trained.gradients import GradientFactors

D_IN, D_OUT, MATRICES = 5, 3, 2
HPARAMS = MendHparams(layers=(0, 1), rank=4, step=0.02)


@pytest.fixture
def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def random_gradient(generator: torch.Generator, edits: int, tokens: int) -> GradientFactors:
    """The last token of the last edit is padding."""
    there = torch.ones(edits, tokens)
    there[-1, -1] = 0
    x, delta = (
        torch.randn(edits, tokens, width, generator=generator, dtype=torch.float64)
        for width in (D_IN, D_OUT)
    )
    return GradientFactors.of(x, delta, there)


def random_network(generator: torch.Generator) -> Network:
    """As after training: no parameter has its first value."""
    network = Network(D_IN, D_OUT, MATRICES, HPARAMS).double()
    with torch.no_grad():
        for parameter in network.parameters():
            noise = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
            parameter.add_(0.5 * noise)
    for number in range(3):
        network.observe(random_gradient(generator, 2, 3 + number))
    return network


def test_moments_are_those_of_all_vectors_however_batched(generator: torch.Generator) -> None:
    vectors = torch.randn(11, 4, generator=generator, dtype=torch.float64) * 3 + 7
    moments = Moments(4)
    for part in vectors.split([1, 0, 6, 4]):
        moments.observe(part)
    seen = vectors.numpy()
    expected = (seen - seen.mean(0)) / (seen.std(0, ddof=1) + 1e-7)
    np.testing.assert_allclose(moments.normalised(vectors).numpy(), expected, rtol=1e-12)


def test_too_few_vectors_are_an_error() -> None:
    moments = Moments(4)
    moments.observe(torch.ones(1, 4))
    with pytest.raises(UntrainedEditor, match="too few gradients"):
        moments.normalised(torch.ones(1, 4))


@pytest.mark.parametrize("matrix", range(MATRICES))
def test_the_change_is_that_of_the_formula(generator: torch.Generator, matrix: int) -> None:
    network, gradient = random_network(generator), random_gradient(generator, 2, 4)
    with torch.no_grad():
        found = network(gradient, matrix).dense().numpy()
    parts = {name: tensor.detach().numpy() for name, tensor in network.state_dict().items()}

    def standardised(name: str, vector: np.ndarray) -> np.ndarray:
        deviation = np.sqrt(parts[f"{name}.squares"] / (parts[f"{name}.count"] - 1))
        return (vector - parts[f"{name}.mean"]) / (deviation + 1e-7)

    expected = np.zeros((2, D_OUT, D_IN))
    for edit in range(2):
        for token in range(4):
            if not gradient.mask[edit, token]:
                continue
            x, delta = (t[edit, token].numpy() for t in (gradient.x, gradient.delta))
            z = np.concatenate([standardised("x", x), standardised("delta", delta)])
            for block in range(HPARAMS.blocks):
                u, v, b = (parts[f"blocks.{block}.{name}"] for name in ("u", "v", "bias"))
                s, o = (parts[f"blocks.{block}.{name}"][matrix] for name in ("scale", "shift"))
                z = z + np.maximum(s * (u @ (v @ z) + b) + o, 0)
            step = np.exp(parts["log_steps"][matrix])
            expected[edit] -= step * np.outer(z[D_IN:], z[:D_IN])
    np.testing.assert_allclose(found, expected, rtol=1e-10, atol=1e-12)


def test_before_training_it_is_a_step_down_the_standardised_gradient(
    generator: torch.Generator,
) -> None:
    editor = MendEditor(HPARAMS, {0: (D_IN, D_OUT), 1: (D_IN, D_OUT)}, torch.zeros(1, 1)).double()
    gradient = random_gradient(generator, 2, 4)
    editor.observe({0: gradient, 1: gradient})
    (network,) = editor.networks.values()
    assert isinstance(network, Network)
    mask = gradient.mask[..., None]
    x, delta = (
        moments.normalised(part) * mask
        for moments, part in ((network.x, gradient.x), (network.delta, gradient.delta))
    )
    for factors in editor.changes({0: gradient, 1: gradient}).values():
        expected = -HPARAMS.step * delta.transpose(1, 2) @ x
        torch.testing.assert_close(factors.dense(), expected)


def test_a_network_serves_all_matrices_of_a_shape() -> None:
    shapes = {0: (D_IN, D_OUT), 1: (D_IN, D_OUT), 4: (D_OUT, D_IN)}
    editor = MendEditor(MendHparams(layers=(0, 1, 4), rank=4), shapes, torch.zeros(1, 1))
    assert {name: len(net.log_steps) for name, net in editor.networks.items()} == {
        "5x3": 2,
        "3x5": 1,
    }
