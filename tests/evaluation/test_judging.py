"""A record's scores, computed from constructed answers."""

from dataclasses import replace

import pytest

from vllm_edit.evaluation.judging import judge, questions
from vllm_edit.evaluation.question import Answer, Forced, Question
from vllm_edit.evaluation.record import Probe, Record, RequestedRewrite

RECORD = Record(
    case="1",
    prompt="Ann plays",
    subject="Ann",
    target_new="golf",
    ground_truth="polo",
    rephrasings=("The sport of Ann is", "What does Ann play?"),
    locality={
        "other_subjects": (Probe(("Bob plays",), ("polo",)),),
        "other_relations": (Probe(("Ann lives in",), ("Rome",)),),
    },
    portability={"multi_hop": (Probe(("What does Ann need?", "Ann uses a"), ("club", "stick")),)},
    neighbourhood=("Bob plays",),
)


def answers(
    record: Record, texts: dict[str, str], greedy: dict[str, tuple[int, ...]] | None = None
) -> dict[Question, Answer]:
    """Answers with these texts. Every target has the tokens 1 and 2; golf is likelier."""
    return {
        question: Answer(
            texts.get(question.prompt, "nothing"),
            Forced(
                (1, 2),
                (greedy or {}).get(question.prompt, (1, 2)),
                1.0 if question.target == "golf" else 2.0,
            ),
        )
        for question in questions(record)
    }


def test_every_metric_is_scored_by_its_definition() -> None:
    before = answers(RECORD, {"Bob plays": "polo.", "Ann lives in": "Rome."})
    after = answers(
        RECORD,
        {
            "Ann plays": "golf.",
            "The sport of Ann is": "golf",
            "Bob plays": "polo. Often",
            "Ann lives in": "Oslo",
            "Ann uses a": "stick.",
        },
        {"What does Ann play?": (1, 9), "Ann lives in": (8, 9), "What does Ann need?": (8, 9)},
    )
    judged = judge(RECORD, before, after)
    assert judged.case == "1"
    assert judged.generated == "golf."
    assert judged.scores == pytest.approx(
        {
            "reliability/generated": 1.0,
            "reliability/teacher_forced": 1.0,
            "generalization/generated": 0.5,
            "generalization/teacher_forced": 0.75,
            "locality.other_subjects/generated": 1.0,
            "locality.other_subjects/teacher_forced": 1.0,
            "locality.other_relations/generated": 0.0,
            "locality.other_relations/teacher_forced": 0.0,
            "locality/generated": 0.5,
            "locality/teacher_forced": 0.5,
            # Any answer to any wording is right.
            "portability.multi_hop/generated": 1.0,
            "portability.multi_hop/teacher_forced": 1.0,
            "portability/generated": 1.0,
            "portability/teacher_forced": 1.0,
            "efficacy_success": 1.0,
            "paraphrase_success": 1.0,
            # For other subjects the true object should be likelier, but golf is.
            "neighbourhood_success": 0.0,
        }
    )


def test_answers_without_likelihoods_have_no_forced_scores() -> None:
    answered = answers(RECORD, {"Ann plays": "golf."})
    without_forced = {
        question: Answer(answer.generated, None) for question, answer in answered.items()
    }
    scores = judge(RECORD, without_forced, without_forced).scores
    assert scores["reliability/generated"] == 1.0
    assert not [name for name in scores if "teacher" in name or "success" in name]


def test_probes_that_another_edit_contradicts_are_left_out() -> None:
    answered = answers(RECORD, {})
    moved = RequestedRewrite("Ann lives in", "Ann", "Oslo", "Rome")
    scores = judge(RECORD, answered, answered, [moved]).scores
    assert "locality.other_relations/generated" not in scores
    assert "locality.other_subjects/generated" in scores
    elsewhere = replace(moved, subject="Eve")
    assert (
        "locality.other_relations/generated"
        in judge(RECORD, answered, answered, [elsewhere]).scores
    )


def test_all_facts_of_a_case_are_judged_except_overridden_ones() -> None:
    earlier = RequestedRewrite("Eve plays", "Eve", "chess")
    record = replace(RECORD, before=(earlier,))
    answered = answers(record, {"Ann plays": "golf", "Eve plays": "polo"})
    assert judge(record, answered, answered).scores["reliability/generated"] == 0.5
    record = replace(RECORD, before=(replace(earlier, judged=False),))
    assert judge(record, answered, answered).scores["reliability/generated"] == 1.0
