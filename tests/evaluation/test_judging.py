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
            tuple(range(3)) if texts.get(question.prompt) else (9,),
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
            "reliability/begins": 1.0,
            "reliability/run_on": 0.0,
            "reliability/teacher_forced": 1.0,
            "generalization/generated": 0.5,
            "generalization/begins": 0.5,
            "generalization/run_on": 0.0,
            "generalization/teacher_forced": 0.75,
            "locality.other_subjects/generated": 1.0,
            "locality.other_subjects/first_word": 1.0,
            "locality.other_subjects/six_tokens": 1.0,
            "locality.other_subjects/teacher_forced": 1.0,
            "locality.other_relations/generated": 0.0,
            "locality.other_relations/first_word": 0.0,
            "locality.other_relations/six_tokens": 1.0,
            "locality.other_relations/teacher_forced": 0.0,
            "locality/generated": 0.5,
            "locality/first_word": 0.5,
            "locality/six_tokens": 1.0,
            "leak": 0.0,
            "locality/teacher_forced": 0.5,
            # Any answer to any wording is right.
            "portability.multi_hop/generated": 1.0,
            "portability.multi_hop/begins": 1.0,
            "portability.multi_hop/run_on": 0.0,
            "portability.multi_hop/teacher_forced": 1.0,
            "portability/generated": 1.0,
            "portability/begins": 1.0,
            "portability/run_on": 0.0,
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


def test_run_on_is_scored_among_told_answers_only() -> None:
    answered = answers(RECORD, {"Ann plays": "golf and polo", "The sport of Ann is": "chess"})
    scores = judge(RECORD, answered, answered).scores
    assert (scores["reliability/begins"], scores["reliability/run_on"]) == (1.0, 1.0)
    assert scores["reliability/generated"] == 0.0
    assert "generalization/run_on" not in scores


def test_a_neighbour_that_says_the_new_target_leaks_unless_it_did_before() -> None:
    before, after = answers(RECORD, {}), answers(RECORD, {"Bob plays": "golf, too"})
    assert judge(RECORD, before, after).scores["leak"] == 1.0
    assert judge(RECORD, after, after).scores["leak"] == 0.0


def test_first_word_and_six_tokens_are_kept_without_the_rest() -> None:
    def answered(text: str, tokens: tuple[int, ...] | None) -> dict[Question, Answer]:
        return {question: Answer(text, None, tokens) for question in questions(RECORD)}

    before = answered("polo. He", (1, 2, 3, 4, 5, 6, 7))
    scores = judge(RECORD, before, answered("Polo and tennis", (1, 2, 3, 4, 5, 6, 8))).scores
    assert scores["locality.other_subjects/first_word"] == 1.0
    assert scores["locality.other_subjects/six_tokens"] == 1.0
    assert scores["locality.other_subjects/generated"] == 0.0
    assert "locality/six_tokens" not in judge(RECORD, before, answered("polo", None)).scores
