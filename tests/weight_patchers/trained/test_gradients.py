"""Gradients in factors, and changes that are in effect in some rows only."""

from collections.abc import Callable

import pytest
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from weight_patchers import Context, Edit
from weight_patchers.model import hooks
from weight_patchers.model.layers import projection
from weight_patchers.trained.changes import Factors, applied
from weight_patchers.trained.gradients import read_gradients
from weight_patchers.values.optimisation import target_nll
from weight_patchers.values.problem import Problem, build_problem

BuildModel = Callable[..., PreTrainedModel]
EDITS = (
    Edit("The capital of France is", "France", "Lima Oslo"),
    Edit("Anna Berg was born in the old city of", "Anna Berg", "Paris"),
)
CONTEXTS = (Context(), Context("Oslo is big. "))


def problem_of(tokenizer: PreTrainedTokenizerFast, edits: tuple[Edit, ...]) -> Problem:
    groups = [[edit] for edit in edits]
    return build_problem(tokenizer, groups, CONTEXTS, [[]] * len(edits), torch.device("cpu"))


def nll(model: PreTrainedModel, problem: Problem) -> torch.Tensor:
    logits = model(**problem.batch.arguments()).logits
    return target_nll(logits[problem.target_rows, problem.target_columns], problem)


@pytest.mark.parametrize("family", ["gpt2", "llama", "opt"])
def test_the_factors_make_the_gradient_of_each_edits_loss(
    build_model: BuildModel, tokenizer: PreTrainedTokenizerFast, family: str
) -> None:
    model = build_model(family).eval()
    targets = {layer: projection(model, layer) for layer in (0, 2)}
    problem = problem_of(tokenizer, EDITS)
    with hooks.frozen(model):
        factors = read_gradients(model, targets, problem)
    losses = nll(model, problem)
    for layer, target in targets.items():
        for edit, loss in enumerate(losses):
            (expected,) = torch.autograd.grad(loss, target.weight, retain_graph=True)
            found = factors[layer].dense()[edit]
            expected = expected.T if target.transposed else expected
            torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-7)
        assert not bool(factors[layer].x[~factors[layer].mask].any())
        assert not bool(factors[layer].delta[~factors[layer].mask].any())


@pytest.mark.parametrize("family", ["gpt2", "opt"])
def test_each_row_is_computed_with_the_change_of_its_own_edit(
    build_model: BuildModel, tokenizer: PreTrainedTokenizerFast, family: str
) -> None:
    model = build_model(family).eval().requires_grad_(False)
    target = projection(model, 1)
    problem = problem_of(tokenizer, EDITS)
    generator = torch.Generator().manual_seed(0)
    factors = Factors(
        torch.randn(2, target.d_out, 3, generator=generator) / 10,
        torch.randn(2, target.d_in, 3, generator=generator),
    )
    with applied({1: target}, {1: factors}, problem.owners):
        together = nll(model, problem)
    base = target.matrix()
    for edit in range(2):
        target.write(base + factors.dense()[edit])
        torch.testing.assert_close(nll(model, problem)[edit], together[edit])
    target.write(base)
    assert not target.module._forward_hooks


def test_sums_of_changes() -> None:
    generator = torch.Generator().manual_seed(0)
    one, other = (
        Factors(
            torch.randn(4, 3, 2, generator=generator), torch.randn(4, 5, 2, generator=generator)
        )
        for _ in range(2)
    )
    torch.testing.assert_close(one.joined(other).dense(), one.dense() + other.dense())
    torch.testing.assert_close(one.grouped(2).dense()[1], one.dense()[2] + one.dense()[3])
    factors = torch.tensor([1.0, 0.0, 2.0, 1.0])
    torch.testing.assert_close(one.scaled(factors).dense()[2], 2 * one.dense()[2])
    u, v = one.scaled(factors).of_edit(1)
    assert u.shape == (3, 0) == (len(u), v.shape[1])
