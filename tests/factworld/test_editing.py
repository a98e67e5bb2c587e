"""Facts sit where ROME looks for them: single edits of the bundled model, each taken back."""

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from statistics import mean

import pytest
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from vllm_edit import factworld
from vllm_edit.factworld.skills import Generate
from vllm_edit.factworld.wordings import BY_NAME, SUBJECT
from vllm_edit.factworld.world import World
from weight_patchers import Delta, Edit, RomeHparams, fingerprint, rome, statistics
from weight_patchers.hyperparameters import find

EDITS = 50


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
    saved = {name: model.get_parameter(name).data.clone() for name in delta.factors}
    for name, factor in delta.factors.items():
        model.get_parameter(name).data += factor.u @ factor.v.T
    yield
    for name, weight in saved.items():
        model.get_parameter(name).data.copy_(weight)


@pytest.fixture(scope="module")
def patch(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> Callable[[Edit], Delta]:
    """ROME with the hyperparameters shipped for the bundled model."""
    hparams = find(RomeHparams, "rome", model.config)
    known = statistics.collect(
        model,
        tokenizer,
        factworld.corpus(),
        layers=[hparams.layer],
        fingerprint=fingerprint(factworld.checkpoint()),
        source="factworld",
    )
    contexts = rome.sample_contexts(model, tokenizer, hparams)
    return lambda edit: rome.compute(model, tokenizer, [edit], hparams, known, contexts=contexts)


@pytest.fixture(scope="module")
def scores(
    world: World, model: PreTrainedModel, generate: Generate, patch: Callable[[Edit], Delta]
) -> Scores:
    rng = random.Random("single edits")
    found = Scores()
    for record in factworld.requests("easyedit", EDITS, seed=7):
        near = [
            (fact.subject, fact.relation)
            for fact in world.facts
            if record["prompt"] == BY_NAME[fact.relation].statement.replace(SUBJECT, fact.subject)
        ]
        relation = BY_NAME[near[0][1]]
        others = [fact for fact in world.of(relation.name) if fact.subject != record["subject"]]
        subjects = [
            rng.choice(relation.trained).replace(SUBJECT, fact.subject)
            for fact in rng.sample(others, 4)
        ]
        relations = [
            probe["prompt"] for probe in record["locality"].get("Relation_Specificity", [])
        ]
        untouched = subjects + relations
        before = generate(untouched, 8)
        edit = Edit(record["prompt"], record["subject"], record["target_new"])
        with applied(model, patch(edit)):
            wordings = [record["prompt"], *record["rephrase_prompts"]]
            told = [text.strip() for text in generate(wordings, 8)]
            after = generate(untouched, 8)
        kept = [one == other for one, other in zip(before, after, strict=True)]
        right = [text == f"{edit.target_new}." for text in told]
        found.efficacy.append(right[0])
        found.wordings += right[1:]
        found.subjects += kept[: len(subjects)]
        found.relations += kept[len(subjects) :]
    return found


def test_edited_facts_are_told(scores: Scores) -> None:
    assert len(scores.efficacy) == EDITS
    assert mean(scores.efficacy) >= 0.95


def test_edited_facts_are_told_in_held_out_wordings(scores: Scores) -> None:
    assert mean(scores.wordings) >= 0.85


def test_other_subjects_stay(scores: Scores) -> None:
    assert mean(scores.subjects) >= 0.95


def test_other_relations_of_the_subject_stay(scores: Scores) -> None:
    assert mean(scores.relations) >= 0.80
