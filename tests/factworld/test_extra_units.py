"""T-Patcher and CaliNET on the bundled model: a few edits are told, and others are kept."""

from statistics import mean

from transformers import PreTrainedModel

from tests.factworld.editing import Patch, cases
from tests.factworld.skills import Generate
from vllm_edit.factworld.world import World
from weight_patchers import applied


def test_single_edits_of_t_patcher(
    world: World, model: PreTrainedModel, generate: Generate, patch: Patch
) -> None:
    told, kept = [], []
    for case in cases(world, 5):
        before = generate(case.subjects, 8)
        with applied(model, [patch("t-patcher", [case.edit])]):
            (answer,) = generate([case.edit.prompt], 8)
            after = generate(case.subjects, 8)
        told.append(case.is_correct(answer))
        kept += [one == other for one, other in zip(before, after, strict=True)]
    assert all(told)
    assert mean(kept) >= 0.9


def test_facts_of_calinet_together(
    world: World, model: PreTrainedModel, generate: Generate, patch: Patch
) -> None:
    chosen = cases(world, 10)
    wordings = [(case, prompt) for case in chosen for prompt in case.wordings]
    with applied(model, [patch("calinet", [case.edit for case in chosen])]):
        told = generate([case.edit.prompt for case in chosen], 8)
        reworded = generate([prompt for _, prompt in wordings], 8)
    assert all(case.is_correct(text) for case, text in zip(chosen, told, strict=True))
    assert mean(c.is_correct(t) for (c, _), t in zip(wordings, reworded, strict=True)) >= 0.7
