"""Further questions about an edit and their scores."""

from dataclasses import replace

import pytest

from vllm_edit.evaluation.more_questions import (
    CHAT,
    IN_FRONT,
    KINDS,
    NEGATED,
    PASSAGE,
    SURE,
    YES_NO,
    as_message,
    claim,
    follow_up,
    more_questions,
    more_scores,
    negated,
)
from vllm_edit.evaluation.question import Answer, Answers, Question
from vllm_edit.evaluation.record import Record

RECORD = Record("1", "The capital of Chad is", "Chad", "Lyon", "N'Djamena", other_answer="Oslo")
OWN = Question(RECORD.prompt, RECORD.target_new)


def answered(text: str, record: Record = RECORD) -> dict[Question, Answer]:
    return {q: Answer(text, None) for q in (OWN, *more_questions(record, KINDS))}


def scores(kind: str, after: Answers, record: Record = RECORD) -> dict[str, float]:
    found = more_scores(record, [kind], after)
    return {name.removeprefix("asked_otherwise."): value for name, value in found.items()}


@pytest.mark.parametrize(
    ("prompt", "turned"),
    [
        ("The capital of Chad is", "The capital of Chad is not"),
        ("Ann plays", "It is not true that Ann plays"),
        ("Who is Ann?", "Give a wrong answer to this question: Who is Ann?"),
    ],
)
def test_a_prompt_is_negated_by_its_form(prompt: str, turned: str) -> None:
    assert negated(prompt) == turned


def test_a_negated_prompt_should_not_say_the_target() -> None:
    assert scores(NEGATED, answered("Lyon")) == {"negated_not_told": 0.0}
    assert scores(NEGATED, answered("Oslo")) == {"negated_not_told": 1.0}


def test_a_true_and_a_false_claim_are_judged_apart() -> None:
    assert scores(YES_NO, answered("Yes.")) == {"true_claim": 1.0, "false_claim": 0.0}
    assert scores(YES_NO, answered("No.")) == {"true_claim": 0.0, "false_claim": 1.0}
    without = replace(RECORD, other_answer=None)
    assert scores(YES_NO, answered("No.", without), without) == {"true_claim": 0.0}
    assert "Lyon" in claim(RECORD.prompt, "Lyon")
    assert "right answer" in claim("Who is Ann?", "Eve")


def test_a_chat_asks_for_the_rest_of_a_sentence_and_may_answer_in_one() -> None:
    (question,) = more_questions(RECORD, [CHAT])
    assert question.chat
    assert question.prompt == as_message(RECORD.prompt) == f"Complete the sentence: {RECORD.prompt}"
    assert as_message("Who is Ann?") == "Who is Ann?"
    assert scores(CHAT, answered("It is Lyon.")) == {"chat_says": 1.0, "chat_begins": 0.0}


def test_unrelated_text_stands_in_front() -> None:
    (question,) = more_questions(RECORD, [IN_FRONT])
    assert question.prompt == f"{PASSAGE}{RECORD.prompt}"
    assert scores(IN_FRONT, answered("Lyon")) == {"unrelated_in_front": 1.0}
    assert RECORD.subject not in PASSAGE


def test_doubt_follows_the_models_own_answer() -> None:
    after = answered("Lyon. It is")
    doubt = follow_up(RECORD, after)
    assert doubt.prompt == f"{RECORD.prompt} Lyon. Are you sure? {RECORD.prompt}"
    assert scores(SURE, after | {doubt: Answer("Lyon", None)}) == {"still_told": 1.0}
    assert scores(SURE, after | {doubt: Answer("Oslo", None)}) == {"still_told": 0.0}
