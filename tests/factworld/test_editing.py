"""Edits of the bundled model, judged by what it then says: alone, in batches, one after another.

The methods' hyperparameters were found on other facts than these.
"""

import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from statistics import mean

import pytest
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from vllm_edit import factworld
from vllm_edit.factworld.skills import Generate
from vllm_edit.factworld.wordings import BY_NAME, SUBJECT
from vllm_edit.factworld.world import World
from weight_patchers import METHODS, Delta, Edit, fingerprint, statistics
from weight_patchers.hyperparameters import find
from weight_patchers.values.workload import surround

SINGLE = 100
Patch = Callable[[str, Sequence[Edit]], Delta]


@dataclass(frozen=True)
class Case:
    """An edit with prompts: other wordings of it, other subjects, other relations of its own."""

    edit: Edit
    relation: str
    wordings: list[str]
    subjects: list[str]
    relations: list[str]


@dataclass
class Scores:
    """One entry for each prompt asked after an edit: whether it came out as it should."""

    efficacy: list[bool] = field(default_factory=list)
    wordings: list[bool] = field(default_factory=list)
    subjects: list[bool] = field(default_factory=list)
    relations: list[bool] = field(default_factory=list)


@contextmanager
def applied(model: PreTrainedModel, delta: Delta) -> Iterator[None]:
    """The model with the delta in it, and as it was afterwards."""
    saved = {name: model.get_parameter(name).data.clone() for name in delta.changes}
    for name, change in delta.changes.items():
        model.get_parameter(name).data += change.dense()
    yield
    for name, weight in saved.items():
        model.get_parameter(name).data.copy_(weight)


@pytest.fixture(scope="module")
def patch(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> Patch:
    """Any method with the hyperparameters shipped for the bundled model."""
    known = statistics.collect(
        model,
        tokenizer,
        factworld.corpus(),
        layers=[0, 1, 2],
        fingerprint=fingerprint(factworld.checkpoint()),
        source="factworld",
    )

    def compute(name: str, edits: Sequence[Edit]) -> Delta:
        hparams = find(METHODS[name].hparams, name, model.config)
        contexts = surround(model, tokenizer, hparams)
        method = METHODS[name].compute
        return method(model, tokenizer, edits, hparams, known, contexts=contexts)

    return compute


def cases(world: World, count: int) -> list[Case]:
    """`count` different facts with the prompts that an edit of them is judged by."""
    rng = random.Random("single edits")
    found: dict[tuple[str, str], Case] = {}
    for record in factworld.requests("easyedit", count, seed=7):
        (name,) = {
            fact.relation
            for fact in world.facts
            if record["prompt"] == BY_NAME[fact.relation].statement.replace(SUBJECT, fact.subject)
        }
        relation = BY_NAME[name]
        edit = Edit(record["prompt"], record["subject"], record["target_new"])
        others = [fact for fact in world.of(name) if fact.subject != edit.subject]
        case = Case(
            edit=edit,
            relation=name,
            wordings=record["rephrase_prompts"],
            subjects=[
                rng.choice(relation.trained).replace(SUBJECT, fact.subject)
                for fact in rng.sample(others, 4)
            ],
            relations=[p["prompt"] for p in record["locality"].get("Relation_Specificity", [])],
        )
        found.setdefault(edit.conflict_key, case)
    return list(found.values())


def told(generate: Generate, case: Case, before: dict[str, str], scores: Scores) -> None:
    """Ask the edited model, and note what came out as it should."""
    asked = [case.edit.prompt, *case.wordings]
    right = [text.strip() == f"{case.edit.target_new}." for text in generate(asked, 8)]
    scores.efficacy.append(right[0])
    scores.wordings += right[1:]
    kept = dict(zip(case.subjects + case.relations, generate(case.subjects + case.relations, 8),
                    strict=True))  # fmt: skip
    scores.subjects += [kept[prompt] == before[prompt] for prompt in case.subjects]
    scores.relations += [kept[prompt] == before[prompt] for prompt in case.relations]


@pytest.mark.parametrize("name", ["rome", "memit", "emmet", "alphaedit"])
def test_single_edits(
    world: World, model: PreTrainedModel, generate: Generate, patch: Patch, name: str
) -> None:
    scores = Scores()
    chosen = cases(world, SINGLE)
    prompts = [prompt for case in chosen for prompt in case.subjects + case.relations]
    before = dict(zip(prompts, generate(prompts, 8), strict=True))
    for case in chosen:
        with applied(model, patch(name, [case.edit])):
            told(generate, case, before, scores)
    assert mean(scores.efficacy) >= 0.98
    assert mean(scores.wordings) >= 0.90
    assert mean(scores.subjects) >= 0.95
    assert mean(scores.relations) >= 0.85


@pytest.mark.parametrize(("name", "count"), [("memit", 100), ("memit", 500), ("alphaedit", 100)])
def test_batches(
    world: World, model: PreTrainedModel, generate: Generate, patch: Patch, name: str, count: int
) -> None:
    """Asked of other subjects: facts of the edited relations that no edit of the batch changes."""
    chosen = cases(world, count)
    changed = {(case.edit.subject, case.relation) for case in chosen}
    rng = random.Random("batches")
    others = [fact for fact in world.facts if (fact.subject, fact.relation) not in changed]
    prompts = [
        rng.choice(BY_NAME[fact.relation].trained).replace(SUBJECT, fact.subject)
        for fact in rng.sample(others, min(300, len(others)))
    ]
    before = generate(prompts, 8)
    with applied(model, patch(name, [case.edit for case in chosen])):
        answers = generate([case.edit.prompt for case in chosen], 8)
        after = generate(prompts, 8)
    right = [
        text.strip() == f"{case.edit.target_new}."
        for text, case in zip(answers, chosen, strict=True)
    ]
    assert mean(right) >= 0.95
    assert mean(one == other for one, other in zip(before, after, strict=True)) >= 0.90


def test_what_is_computed_is_left_out_of_the_model(
    model: PreTrainedModel, world: World, patch: Patch
) -> None:
    before = {name: value.clone() for name, value in model.state_dict().items()}
    patch("alphaedit", [case.edit for case in cases(world, 3)])
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
