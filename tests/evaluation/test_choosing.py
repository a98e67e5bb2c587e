"""Records chosen by what the unedited model tells."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from vllm_edit import factworld
from vllm_edit.evaluation.choosing import choose_records, wanted_records
from vllm_edit.evaluation.local_model import LocalModel
from vllm_edit.evaluation.plan import EvaluationPlan
from vllm_edit.evaluation.question import Answers, Question
from vllm_edit.evaluation.record import Record
from vllm_edit.evaluation.sample import draw
from vllm_edit.evaluation.target import EditableModel
from vllm_edit.evaluation.unedited import Unedited, ask_unedited
from vllm_edit.processes.load_model import load


@dataclass
class Asked:
    """A model that counts the questions it is asked."""

    model: LocalModel
    count: int = 0
    can_chat: bool = True

    def answer(self, questions: Iterable[Question]) -> Answers:
        questions = list(questions)
        self.count += len(questions)
        return self.model.answer(questions)

    def top_logprobs(self, prompts: Sequence[str]) -> list[dict[int, float]]:
        return self.model.top_logprobs(prompts)

    def logprobs_of(
        self, prompts: Sequence[str], tokens: Sequence[Iterable[int]]
    ) -> list[dict[int, float]]:
        return self.model.logprobs_of(prompts, tokens)

    def sample(self, prompts: Sequence[str], seed: int) -> list[str]:
        return self.model.sample(prompts, seed)


@dataclass
class OneModel:
    """A target that always opens the same model."""

    model: Asked
    name: str = "factworld"
    opened: list[str] = field(default_factory=list)

    @contextmanager
    def open(self, method: str) -> Iterator[EditableModel]:
        self.opened.append(method)
        yield EditableModel(self.model, None, None)  # type: ignore[arg-type]  # nothing is edited


@pytest.fixture(scope="module")
def model() -> LocalModel:
    return LocalModel(*load(factworld.checkpoint(), "cpu"), max_tokens=8)


@pytest.fixture
def records() -> tuple[Record, ...]:
    """Three facts of the bundled model, each edited to another object; the second is untrue."""
    records = draw("factworld", 3, 0).records
    return records[0], replace(records[1], ground_truth="nothing at all"), records[2]


def test_the_model_tells_its_own_facts_and_not_the_edits(
    model: LocalModel, records: tuple[Record, ...]
) -> None:
    assert list(wanted_records(model, records, known=True)) == [records[0], records[2]]
    assert list(wanted_records(model, records, known=False)) == list(records)
    told = replace(records[0], target_new=records[0].ground_truth or "", ground_truth=None)
    assert list(wanted_records(model, [told], known=False)) == []
    assert list(wanted_records(model, [told], known=True)) == [told]


def test_no_more_is_asked_than_needed_and_a_choice_is_made_once(
    model: LocalModel, records: tuple[Record, ...], plan: EvaluationPlan, tmp_path: Path
) -> None:
    plan = replace(plan, edits=1, counts=(1,), only="known")
    asked = Asked(model)
    target = OneModel(asked)
    for _ in range(2):
        choose = choose_records(plan, target, tmp_path / "chosen.json")
        assert choose is not None
        assert list(choose(records)) == [records[0]]
    assert target.opened == ["ike"]
    assert asked.count == 1
    other = choose_records(replace(plan, only="wrong"), target, tmp_path / "chosen.json")
    assert other is not None
    assert list(other(records)) == [records[0]]
    assert len(target.opened) == 2
    assert choose_records(replace(plan, only=None), target, tmp_path) is None


def test_the_unedited_model_is_asked_twice_and_its_answers_can_be_stored(
    model: LocalModel, plan: EvaluationPlan
) -> None:
    sample = draw("factworld", 1, 0)
    asked = Asked(model)
    unedited = ask_unedited(asked, sample, ("negated", "sure", "chat"))
    assert asked.count == 2 * len(unedited.answers)
    assert unedited.again == unedited.answers
    assert unedited.drift == 0.0
    assert any("Are you sure?" in question.prompt for question in unedited.answers)
    assert [a for q, a in unedited.answers.items() if q.chat and a.forced is None]
    assert Unedited.from_json(unedited.as_json()) == unedited
