"""Scores of an edit that took, and of one that changes nothing."""

from collections.abc import Sequence

import pytest
from transformers import AutoModelForCausalLM, AutoTokenizer

from vllm_edit.cli.tune import _facts
from weight_patchers import Delta
from weight_patchers.tuning.cases import draw_cases, told_facts
from weight_patchers.tuning.judging import Judge, Scores, front


@pytest.fixture(scope="module")
def judge() -> Judge:
    from vllm_edit import factworld

    model = AutoModelForCausalLM.from_pretrained(factworld.checkpoint(), dtype="float32").eval()
    return Judge(model, AutoTokenizer.from_pretrained(factworld.checkpoint()))


def test_cases_are_of_facts_that_are_told_and_their_subjects_are_apart(judge: Judge) -> None:
    facts = _facts(None, bundled=True)
    told = told_facts(judge.model, judge.tokenizer, facts, 60, 0)
    assert 60 <= len(told) <= 60 + 64
    assert told == told_facts(judge.model, judge.tokenizer, facts, 60, 0)
    cases = draw_cases(told, facts, 12, 3, 0)
    assert cases == draw_cases(told, facts, 12, 3, 0)
    assert len({case.edit.subject for case in cases}) == len(cases) == 12
    prompts = {fact.prompts[0]: fact for fact in facts}
    for case in cases:
        fact = prompts[case.edit.prompt]
        assert fact in told
        assert case.edit.target_new != fact.answer
        others = {f.answer for f in facts if f.relation == fact.relation}
        assert case.edit.target_new in others
        assert len(case.neighbours) == 3
        for neighbour in case.neighbours:
            assert prompts[neighbour].relation == fact.relation
            assert prompts[neighbour].subject not in {c.edit.subject for c in cases}


def test_without_an_edit_nothing_is_told_and_everything_kept(judge: Judge) -> None:
    facts = _facts(None, bundled=True)
    cases = draw_cases(told_facts(judge.model, judge.tokenizer, facts, 30, 0), facts, 4, 2, 0)
    scores = judge.scores([(Delta.nothing("0" * 64, "rome", {}), cases)], 1.0)
    assert (scores.count, scores.told, scores.reworded, scores.leak) == (4, 0.0, 0.0, 0.0)
    assert (scores.kept_word, scores.kept_six, scores.drift) == (1.0, 1.0, 0.0)
    assert scores.value < -3


def made(told: float, reworded: float, kept: float, leak: float = 0.0) -> Scores:
    return Scores(10, told, None, reworded, kept, kept, leak, 0.0, 1.0)


@pytest.mark.parametrize(
    ("better", "worse"),
    [
        (made(1.0, 0.1, 0.5), made(0.7, 0.9, 1.0)),
        (made(1.0, 0.3, 0.9), made(1.0, 0.2, 0.9)),
        (made(1.0, 0.3, 0.9), made(1.0, 0.3, 0.7)),
        (made(1.0, 0.3, 0.9), made(1.0, 0.3, 0.9, leak=0.1)),
    ],
)
def test_told_comes_first_then_reworded_and_kept(better: Scores, worse: Scores) -> None:
    assert better.value > worse.value


def test_the_front_is_what_nothing_else_is_better_than() -> None:
    points: Sequence[tuple[float, float]] = [(1, 0), (0, 1), (0, 0), (1, 0), (0.5, 0.9)]
    assert front(points) == [True, True, False, True, True]
