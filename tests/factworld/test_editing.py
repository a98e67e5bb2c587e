"""Edits of the bundled model, one at a time and in batches, judged by its answers.

The hyperparameters were tuned on other facts.
"""

from dataclasses import dataclass, field
from statistics import mean
from typing import Any

import pytest
import torch
from transformers import PreTrainedModel

from tests.factworld.editing import Case, Patch, PatchEach, add, cases, restored, unedited
from tests.factworld.skills import Generate
from vllm_edit.factworld.world import World
from weight_patchers.errors import GovernorRefused
from weight_patchers.governor import GOVERNOR, Bounds, judge
from weight_patchers.hyperparameters import find

SINGLE = 100

MANY = {"layers": (1, 2), "covariance_weight": 250.0, "bare_share": 0.8}
"""For edits of all subjects at once: changes other answers less, and gives the target less often
after other text."""


@dataclass
class Scores:
    """One entry per prompt after an edit: whether its answer is right."""

    efficacy: list[bool] = field(default_factory=list)
    wordings: list[bool] = field(default_factory=list)
    subjects: list[bool] = field(default_factory=list)
    relations: list[bool] = field(default_factory=list)


def score_edit(generate: Generate, case: Case, before: dict[str, str], scores: Scores) -> None:
    """Add the scores of the edited model's answers."""
    prompts, kept = [case.edit.prompt, *case.wordings], [*case.subjects, *case.relations]
    texts = generate([*prompts, *kept], 8)
    right = [case.is_correct(text) for text in texts[: len(prompts)]]
    scores.efficacy.append(right[0])
    scores.wordings += right[1:]
    same = [text == before[p] for text, p in zip(texts[len(prompts) :], kept, strict=True)]
    scores.subjects += same[: len(case.subjects)]
    scores.relations += same[len(case.subjects) :]


SLOW = [
    pytest.param(name, marks=pytest.mark.slow) for name in ("memit", "pmet", "emmet", "alphaedit")
]


@pytest.mark.parametrize("name", ["rome", *SLOW])
def test_single_edits(
    world: World, model: PreTrainedModel, generate: Generate, patch_each: PatchEach, name: str
) -> None:
    scores = Scores()
    chosen = cases(world, SINGLE)
    prompts = [prompt for case in chosen for prompt in case.subjects + case.relations]
    before = dict(zip(prompts, generate(prompts, 8), strict=True))
    deltas = patch_each(name, [case.edit for case in chosen])
    for case, delta in zip(chosen, deltas, strict=True):
        with restored(model):
            add(model, delta)
            score_edit(generate, case, before, scores)
    assert mean(scores.efficacy) >= 0.98
    assert mean(scores.wordings) >= 0.90
    assert mean(scores.subjects) >= 0.95
    assert mean(scores.relations) >= 0.85


@pytest.mark.parametrize(
    ("name", "count", "values"),
    [
        pytest.param("memit", 100, {}, marks=pytest.mark.slow),
        pytest.param("memit", 500, MANY, marks=pytest.mark.slow),
        ("alphaedit", 100, {}),
    ],
)
def test_batches(
    world: World,
    model: PreTrainedModel,
    generate: Generate,
    patch: Patch,
    name: str,
    count: int,
    values: dict[str, Any],
) -> None:
    """Asked of other subjects: facts of the edited relations that no edit of the batch changes."""
    chosen = cases(world, count)
    prompts = unedited(world, chosen, 300)
    before = generate(prompts, 8)
    with restored(model):
        add(model, patch(name, [case.edit for case in chosen], **values))
        answers = generate([case.edit.prompt for case in chosen], 8)
        after = generate(prompts, 8)
    right = [case.is_correct(text) for text, case in zip(answers, chosen, strict=True)]
    assert mean(right) >= 0.95
    assert mean(one == other for one, other in zip(before, after, strict=True)) >= 0.90


def test_what_is_computed_is_left_out_of_the_model(
    model: PreTrainedModel, world: World, patch: Patch
) -> None:
    before = {name: value.clone() for name, value in model.state_dict().items()}
    patch("alphaedit", [case.edit for case in cases(world, 3)])
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_an_edit_that_destroys_the_model_is_refused_by_its_drift(
    world: World, model: PreTrainedModel, patch: Patch
) -> None:
    """Steps without a clamp, and next to nothing to weigh the edits against."""
    edits = [case.edit for case in cases(world, 4)]
    absurd = {"step": 20.0, "clamp": None, "kl_factor": 0.0, "covariance_weight": 1e-6}
    delta = patch("memit", edits, **absurd)
    bounds = find(Bounds, GOVERNOR, model.config)
    # Judged by its drift alone: a change can be small beside its matrix and still destroy answers.
    with pytest.raises(GovernorRefused, match=r"drift .* nats"):
        judge(bounds, {}, delta.diagnostics["drift"])
