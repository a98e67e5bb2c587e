"""Forty edits in a row with ft-bf: they end as the live set trained from the base."""

from statistics import mean

import torch
from transformers import PreTrainedModel

from tests.factworld.editing import Patch, add, cases, restored, unedited
from tests.factworld.skills import Generate
from vllm_edit.factworld.world import World

EDITS = 40


def test_forty_edits_are_told_and_others_kept(
    world: World, model: PreTrainedModel, generate: Generate, patch: Patch
) -> None:
    chosen = cases(world, EDITS)
    wordings = [(case, prompt) for case in chosen for prompt in case.wordings]
    kept = [*unedited(world, chosen, 200), *(p for case in chosen for p in case.subjects)]
    before = generate(kept, 8)
    edits = [case.edit for case in chosen]
    delta = patch("ft-bf", edits)
    with restored(model):
        add(model, delta)
        told = generate([case.edit.prompt for case in chosen], 8)
        reworded = generate([prompt for _, prompt in wordings], 8)
        after = generate(kept, 8)
    assert mean(case.is_correct(text) for case, text in zip(chosen, told, strict=True)) >= 0.95
    assert (
        mean(case.is_correct(text) for (case, _), text in zip(wordings, reworded, strict=True))
        >= 0.85
    )
    assert mean(one == other for one, other in zip(before, after, strict=True)) >= 0.90


def test_the_order_of_edits_makes_no_difference(world: World, patch: Patch) -> None:
    edits = [case.edit for case in cases(world, 3)]
    one, other = (patch("ft-bf", chosen) for chosen in (edits, [edits[2], edits[0], edits[1]]))
    for name, change in one.changes.items():
        assert torch.equal(change.dense(), other.changes[name].dense())
