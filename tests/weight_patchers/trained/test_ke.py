"""KnowledgeEditor's masks against their formula in NumPy, float64."""

import numpy as np
import pytest
import torch

from tests.weight_patchers.trained.test_mend import random_gradient
from weight_patchers.ke.editor import KeEditor, Network, Reader
from weight_patchers.ke.hparams import KeHparams
from weight_patchers.model.batch import pad

D_IN, D_OUT = 5, 3
HPARAMS = KeHparams(layers=(0,), hidden=3, condition=4, inner=6, largest=7.0)


@pytest.fixture
def network() -> Network:
    """As after training: no parameter has its first value."""
    generator = torch.Generator().manual_seed(1)
    made = Network(D_IN, D_OUT, HPARAMS).double()
    with torch.no_grad():
        for parameter in made.parameters():
            noise = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
            parameter.add_(0.5 * noise)
    return made


def softmax(values: np.ndarray) -> np.ndarray:
    powers = np.exp(values - values.max())
    return powers / powers.sum()


def test_the_low_rank_update_is_the_dense_one_of_the_formula(network: Network) -> None:
    generator = torch.Generator().manual_seed(0)
    gradient = random_gradient(generator, 2, 4)
    read = torch.randn(2, HPARAMS.condition, generator=generator, dtype=torch.float64)
    with torch.no_grad():
        factors = network(gradient, read)
        outputs = network.layers(read).numpy()
    assert factors.u.shape[2] == 4 + 1
    found, gradients = factors.dense().numpy(), gradient.dense().numpy()
    for edit in range(2):
        rows_a, cols_a, rows_b, cols_b, gate = np.split(
            outputs[edit], np.cumsum([D_OUT, D_IN, D_OUT, D_IN])
        )
        a, b = np.outer(softmax(rows_a), cols_a), np.outer(softmax(rows_b), cols_b)
        factor = HPARAMS.largest / (1 + np.exp(-gate))
        expected = factor * (gradients[edit] * a + b)
        np.testing.assert_allclose(found[edit], expected, rtol=1e-10, atol=1e-14)
        assert np.linalg.matrix_rank(expected) <= 4 + 1


def test_a_masked_gradient_keeps_its_rank() -> None:
    """(delta x^T) * (r c^T) = (delta * r) (x * c)^T, summed over tokens."""
    rng = np.random.default_rng(0)
    delta, x = rng.normal(size=(2, 9)), rng.normal(size=(2, 11))
    r, c = rng.normal(size=9), rng.normal(size=11)
    masked = (delta.T @ x) * np.outer(r, c)
    np.testing.assert_allclose((delta * r).T @ (x * c), masked, rtol=1e-12)
    assert np.linalg.matrix_rank(masked) == 2


def test_before_training_it_is_a_step_down_the_gradient() -> None:
    editor = KeEditor(HPARAMS, {0: (D_IN, D_OUT)}, torch.randn(10, 4)).double()
    gradient = random_gradient(torch.Generator().manual_seed(0), 2, 4)
    texts = pad([[1, 2, 3], [4, 5]], torch.device("cpu"))
    change = editor.changes({0: gradient}, texts)[0].dense()
    downhill = (change * gradient.dense()).sum((1, 2))
    assert bool((downhill < 0).all())


def test_what_is_read_does_not_depend_on_the_company() -> None:
    reader = Reader(HPARAMS, torch.randn(10, 4))
    device = torch.device("cpu")
    both, alone = reader(pad([[1, 2, 3], [4, 5]], device)), reader(pad([[4, 5]], device))
    torch.testing.assert_close(both[1], alone[0])
    assert "embeddings" not in reader.state_dict()
