"""What the unedited model answers: asked once to compare with, and again for the noise floor."""

from collections.abc import Sequence
from dataclasses import astuple, dataclass
from typing import Any

from vllm_edit.domain.scoring import kl_divergence, mean
from vllm_edit.evaluation.judging import questions
from vllm_edit.evaluation.more_questions import SURE, follow_up
from vllm_edit.evaluation.question import Answer, Answers, Forced, Question
from vllm_edit.evaluation.record import Record
from vllm_edit.evaluation.sample import Sample
from vllm_edit.evaluation.target import Model


@dataclass(frozen=True)
class Unedited:
    """Answers, the likeliest next tokens of the control prompts, and both asked a second time.

    `again` and `drift` are the noise floor: how much the model differs from itself.
    """

    answers: Answers
    top: Sequence[dict[int, float]]
    again: Answers
    drift: float | None

    def as_json(self) -> dict[str, Any]:
        return {
            "answers": _answers_as_json(self.answers),
            "top": [list(top.items()) for top in self.top],
            "again": _answers_as_json(self.again),
            "drift": self.drift,
        }

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> "Unedited":
        return cls(
            answers=_answers_from_json(content["answers"]),
            top=[dict(map(tuple, top)) for top in content["top"]],
            again=_answers_from_json(content["again"]),
            drift=content["drift"],
        )


def ask_unedited(model: Model, sample: Sample, kinds: Sequence[str]) -> Unedited:
    """Ask everything, and then everything again. The model has no edits."""
    control = [probe.prompts[0] for probe in sample.control]
    answers = ask(model, sample.records, kinds)
    top = model.top_logprobs(control)
    again = ask(model, sample.records, kinds)
    return Unedited(answers, top, again, drift(model, control, top))


def ask(model: Model, records: Sequence[Record], kinds: Sequence[str]) -> Answers:
    """The answers to all questions about the records; `kinds` of further ones."""
    answers = dict(model.answer(q for record in records for q in questions(record, kinds)))
    if SURE in kinds:
        answers |= model.answer([follow_up(record, answers) for record in records])
    return answers


def drift(model: Model, control: Sequence[str], before: Sequence[dict[int, float]]) -> float | None:
    """Mean KL divergence of the next token on the control prompts; None without prompts."""
    now = model.logprobs_of(control, before)
    divergences = [kl_divergence(*pair) for pair in zip(before, now, strict=True)]
    return mean(divergences) if divergences else None


def _answers_as_json(answers: Answers) -> list[Any]:
    return [[astuple(question), astuple(answer)] for question, answer in answers.items()]


def _answers_from_json(content: list[Any]) -> Answers:
    return {Question(*question): _answer(*answer) for question, answer in content}


def _answer(generated: str, forced: list[Any] | None, tokens: list[int] | None) -> Answer:
    known = Forced(tuple(forced[0]), tuple(forced[1]), forced[2]) if forced else None
    return Answer(generated, known, None if tokens is None else tuple(tokens))
