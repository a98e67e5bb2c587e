"""What is trained behind a target: the end that the context has, and never part of the target."""

import copy

import pytest
import torch
from transformers import PreTrainedTokenizerFast

from tests.weight_patchers.conftest import BuildModel
from weight_patchers import Edit
from weight_patchers.values.contexts import plain_contexts
from weight_patchers.values.optimisation import target_outcome
from weight_patchers.values.problem import Problem, build_problem

PARIS = Edit("The capital of France is", "France", "Lima")
TEMPLATE = (
    "{% for m in messages %}{{ '(' + m['role'] + ')' + m['content'] + eos_token + '\n' }}"
    "{% endfor %}"
)


@pytest.fixture
def chatting(tokenizer: PreTrainedTokenizerFast) -> PreTrainedTokenizerFast:
    own = copy.deepcopy(tokenizer)
    own.add_special_tokens({"eos_token": "</s>"})
    own.chat_template = TEMPLATE
    return own


def problem_of(tokenizer: PreTrainedTokenizerFast, edit: Edit, end: str) -> Problem:
    contexts = plain_contexts(tokenizer, chat=True, end=end)
    return build_problem(tokenizer, [[edit]], contexts, [[]], torch.device("cpu"))


def trained(tokenizer: PreTrainedTokenizerFast, problem: Problem, row: int) -> tuple[str, str]:
    """The target and its end in one row."""
    mine = problem.target_rows == row
    tokens, ends = problem.targets[mine], problem.ends[mine]
    target, end = (str(tokenizer.decode(tokens[which])) for which in (~ends, ends))
    return target.strip(), end


@pytest.mark.parametrize(
    ("end", "bare", "chat"),
    [("none", "", ""), ("turn", "", ".</s>"), ("stop", ".", ".</s>")],
)
def test_the_end_is_that_of_the_context(
    chatting: PreTrainedTokenizerFast, end: str, bare: str, chat: str
) -> None:
    problem = problem_of(chatting, PARIS, end)
    assert [trained(chatting, problem, row) for row in (0, 1)] == [("Lima", bare), ("Lima", chat)]


def test_a_target_that_ends_gets_no_second_stop(chatting: PreTrainedTokenizerFast) -> None:
    edit = Edit(PARIS.prompt, PARIS.subject, "Lima!")
    problem = problem_of(chatting, edit, "stop")
    assert [trained(chatting, problem, row) for row in (0, 1)] == [
        ("Lima!", ""),
        ("Lima!", "</s>"),
    ]


def test_the_end_does_not_count_as_the_target(
    chatting: PreTrainedTokenizerFast, build_model: BuildModel
) -> None:
    model = build_model("llama").eval()
    model.resize_token_embeddings(len(chatting))
    without, ended = (
        target_outcome(model, problem_of(chatting, PARIS, end)) for end in ("none", "stop")
    )
    for one, other in zip(without, ended, strict=True):
        assert torch.allclose(one, other, rtol=1e-5)
