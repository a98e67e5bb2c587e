"""A model in this process answers together as it answers alone."""

from collections.abc import Sequence

import pytest
import torch

from vllm_edit import factworld
from vllm_edit.evaluation import local_model
from vllm_edit.evaluation.judging import questions
from vllm_edit.evaluation.local_model import LocalModel
from vllm_edit.evaluation.question import Answers, Question
from vllm_edit.evaluation.sample import draw
from vllm_edit.processes.load_model import load


@pytest.fixture(scope="module")
def asked() -> Sequence[Question]:
    """Of many lengths, with answers that end before others do."""
    records = draw("factworld", 3, 0).records
    return [question for record in records for question in questions(record)]


def alone(asked: Sequence[Question], model: LocalModel) -> Answers:
    return {question: model.answer([question])[question] for question in asked}


def test_answers_together_are_those_given_alone(asked: Sequence[Question]) -> None:
    model, tokenizer = load(factworld.checkpoint(), "cpu")
    one_by_one = alone(asked, LocalModel(model, tokenizer))
    together = LocalModel(model, tokenizer)
    # The second time, the answers of the first are guesses.
    for found in (together.answer(asked), together.answer(asked)):
        for question, answer in one_by_one.items():
            assert found[question].tokens == answer.tokens
            assert found[question].generated == answer.generated
            theirs, ours = found[question].forced, answer.forced
            assert theirs is not None
            assert ours is not None
            assert theirs.greedy == ours.greedy
            assert theirs.nll == pytest.approx(ours.nll, abs=1e-4)


def test_a_wrong_guess_is_corrected(asked: Sequence[Question]) -> None:
    model, tokenizer = load(factworld.checkpoint(), "cpu")
    right = LocalModel(model, tokenizer).answer(asked)
    misled = LocalModel(model, tokenizer)
    misled.answer(asked)
    misled._guesses = {prompt: (*guess[:1], 5, 5) for prompt, guess in misled._guesses.items()}
    found = misled.answer(asked)
    assert {q: a.tokens for q, a in found.items()} == {q: a.tokens for q, a in right.items()}


def test_in_a_coarser_type_nothing_is_beside_a_question(
    asked: Sequence[Question], monkeypatch: pytest.MonkeyPatch
) -> None:
    model, tokenizer = load(factworld.checkpoint(), "cpu")
    rounded = LocalModel(model.to(torch.bfloat16), tokenizer)
    sizes = []
    pad = local_model.pad

    def counted(rows: Sequence[Sequence[int]], device: torch.device) -> object:
        sizes.append(len(rows))
        return pad(rows, device)

    monkeypatch.setattr(local_model, "pad", counted)
    found = rounded.answer(asked)
    assert set(sizes) == {1}
    again = LocalModel(model, tokenizer).answer(asked)
    assert {q: a.tokens for q, a in found.items()} == {q: a.tokens for q, a in again.items()}
