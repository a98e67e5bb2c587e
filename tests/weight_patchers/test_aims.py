"""What stands between a projection and the residual stream is noticed by trying it."""

from collections.abc import Callable

import pytest
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from tests.weight_patchers.conftest import DENSE
from weight_patchers import Context, Edit
from weight_patchers.model.layers import projection
from weight_patchers.spreading.aims import arrives_unchanged
from weight_patchers.values.problem import build_problem

BETWEEN = {"gemma2", "gemma3", "granite", "olmo2"}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("family", DENSE)
def test_a_norm_or_a_factor_behind_the_mlp_is_noticed(
    build_model: Callable[..., PreTrainedModel],
    tokenizer: PreTrainedTokenizerFast,
    family: str,
    dtype: torch.dtype,
) -> None:
    model = build_model(family, dtype).eval()
    edit = Edit("The capital of France is", "France", "Lima")
    problem = build_problem(tokenizer, [[edit]], [Context()], [[]], model.device)
    arrives = {arrives_unchanged(model, projection(model, layer), problem) for layer in range(3)}
    assert arrives == {family not in BETWEEN}


def test_a_layer_that_norms_its_own_output_is_noticed(
    build_model: Callable[..., PreTrainedModel], tokenizer: PreTrainedTokenizerFast
) -> None:
    model = build_model("opt", do_layer_norm_before=False).eval()
    edit = Edit("The capital of France is", "France", "Lima")
    problem = build_problem(tokenizer, [[edit]], [Context()], [[]], model.device)
    assert not arrives_unchanged(model, projection(model, 1), problem)
