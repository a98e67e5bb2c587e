"""The upper part of a model gives what the whole gives."""

from collections.abc import Callable

import pytest
import torch
from transformers import PreTrainedModel

from tests.weight_patchers.conftest import DENSE
from weight_patchers.model import hooks
from weight_patchers.model.batch import Batch, pad
from weight_patchers.model.layers import layers
from weight_patchers.model.suffix import logits_at, read

BuildModel = Callable[..., PreTrainedModel]
ROWS = [[0, 5, 9, 7, 30], [0, 8, 2], [0, 41, 17, 6]]


@pytest.mark.parametrize("start", [0, 1, 2])
@pytest.mark.parametrize("family", DENSE)
def test_logits_are_those_of_the_whole_model(
    build_model: BuildModel, family: str, start: int
) -> None:
    model = build_model(family).eval()
    batch = pad(ROWS, model.device)
    rows, columns = torch.tensor([0, 2, 1]), torch.tensor([4, 1, 2])
    with torch.no_grad():
        whole = model(**batch.arguments()).logits
        last = {0: layers(model)[2]}
        suffix, logits, made = read(model, start, batch, rows, columns, last)
        again = suffix.logits(batch, rows, columns)
        fewer = suffix.only(torch.tensor([2]), 4)
        one = pad([ROWS[2]], model.device)
        alone = fewer.logits(one, torch.tensor([0]), torch.tensor([3]))
    expected = whole[rows, columns]
    for found in (logits, again, logits_at(model, batch, rows, columns)):
        assert torch.allclose(found, expected, atol=1e-5)
    assert torch.allclose(alone[0], whole[2, 3], atol=1e-5)
    assert made[0].shape[:2] == (3, 5)
    assert not any("forward" in layer.__dict__ for layer in layers(model))


@pytest.mark.parametrize("start", [0, 2])
@pytest.mark.parametrize("family", DENSE)
def test_rows_go_on_from_their_first_tokens(
    build_model: BuildModel, family: str, start: int
) -> None:
    model = build_model(family).eval()
    batch = pad(ROWS, model.device)
    first = torch.tensor([2, 0, 3])
    rows, columns = torch.tensor([0, 0, 2, 1]), torch.tensor([4, 2, 3, 2])
    later = batch.only_from(first)
    assert later.ids.tolist() == [[9, 7, 30], [0, 8, 2], [6, 6, 6]]
    assert later.mask.tolist() == [[1, 1, 1], [1, 1, 1], [1, 0, 0]]
    with torch.no_grad():
        expected = model(**batch.arguments()).logits[rows, columns]
        suffix, logits, _ = read(model, start, batch, rows, columns, {}, first)
        again = [suffix.logits(later, rows, columns - first[rows]) for _ in range(2)]
        fewer = suffix.only(torch.tensor([2]), 1)
        one = Batch(later.ids[2:, :1], later.mask[2:, :1])
        alone = fewer.logits(one, torch.tensor([0]), torch.tensor([0]))
    for found in (logits, *again):
        assert torch.allclose(found, expected, atol=1e-5)
    assert torch.allclose(alone, expected[2:3], atol=1e-5)


def test_the_model_is_whole_again_after_an_error(build_model: BuildModel) -> None:
    model = build_model("llama").eval()
    batch = pad(ROWS, model.device)
    places = (torch.tensor([0]), torch.tensor([1]))
    with torch.no_grad():
        before = logits_at(model, batch, *places)
        suffix, _, _ = read(model, 2, batch, *places, {})
        with pytest.raises(IndexError):
            suffix.logits(batch, torch.tensor([99]), torch.tensor([0]))
        assert torch.equal(logits_at(model, batch, *places), before)


@pytest.mark.parametrize("family", ["gptj", "llama", "opt"])
def test_what_is_added_reaches_the_logits_and_its_gradient_comes_back(
    build_model: BuildModel, family: str
) -> None:
    model = build_model(family).eval()
    batch = pad(ROWS, model.device)
    rows, columns = torch.tensor([0, 1]), torch.tensor([4, 2])
    subjects = torch.tensor([2, 1, 3])
    suffix, _, _ = read(model, 1, batch, rows, columns, {})
    delta = torch.full((3, 32), 0.1, requires_grad=True)
    with hooks.frozen(model), hooks.added(layers(model)[1], subjects, delta):
        found = suffix.logits(batch, rows, columns)
        whole = model(**batch.arguments()).logits[rows, columns]
    assert torch.allclose(found, whole, atol=1e-5)
    (gradient,) = torch.autograd.grad(found.sum(), delta)
    assert float(gradient[0].norm()) > 0
    # The third row is looked at nowhere.
    assert float(gradient[2].norm()) == 0
