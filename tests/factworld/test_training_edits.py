"""What trained editors are trained on has nothing to do with what they are judged on."""

import random

from tests.factworld.editing import cases
from vllm_edit.evaluation.sample import draw
from vllm_edit.factworld.training_edits import PLAIN, evaluated_subjects, training_data
from vllm_edit.factworld.wordings import RELATIONS, SUBJECT
from vllm_edit.factworld.world import World

DRAWN = 300


def test_no_subject_of_an_evaluated_edit_is_in_training(world: World) -> None:
    judged = {case.edit.subject for case in cases(world, 100)}
    judged |= {record.subject for record in draw("factworld", 100, 0).records}
    assert judged <= evaluated_subjects()
    data, rng = training_data(0, 50), random.Random(0)
    for edit in [data.draw(rng) for _ in range(DRAWN)] + list(data.validation):
        assert edit.edit.subject not in evaluated_subjects()
        own = {edit.edit.subject, world.aliases.get(edit.edit.subject)}
        for prompt, _ in edit.kept:
            assert any(name and name in prompt for name in own) or not any(
                f" {name}" in f" {prompt}" for name in evaluated_subjects()
            )


def test_no_held_out_wording_is_in_training(world: World) -> None:
    data, rng = training_data(0, 50), random.Random(1)
    held_out = {wording for relation in RELATIONS for wording in relation.held_out}
    for edit in [data.draw(rng) for _ in range(DRAWN)] + list(data.validation):
        subject = edit.edit.subject
        for prompt in (edit.edit.prompt, *edit.rephrasings):
            assert prompt.replace(subject, SUBJECT) not in held_out


def test_what_is_kept_is_true_and_about_something_else(world: World) -> None:
    data, rng = training_data(0, 0), random.Random(2)
    truths = {(fact.subject, fact.object) for fact in world.surfaces}
    for edit in [data.draw(rng) for _ in range(DRAWN)]:
        for prompt, answer in edit.kept:
            assert prompt not in (edit.edit.prompt, *edit.rephrasings)
            if (prompt, answer) in PLAIN:
                continue
            assert any(name in prompt for name, answer_of in truths if answer_of == answer)


def test_validation_is_about_other_subjects_than_training() -> None:
    data, rng = training_data(0, 60), random.Random(3)
    validated = {edit.edit.subject for edit in data.validation}
    assert not validated & {data.draw(rng).edit.subject for _ in range(DRAWN)}
    assert training_data(0, 60).validation == data.validation
