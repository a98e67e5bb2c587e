"""Training data about the bundled world: edits to random objects, in all wordings."""

import random
from collections.abc import Iterator

from vllm_edit.factworld.draw import Draw
from vllm_edit.factworld.protocol import fill
from vllm_edit.factworld.wordings import BY_NAME
from vllm_edit.factworld.world import World, WorldFact, build_world
from vllm_edit.serac.training.data import TrainingData, TrainingRow

VALIDATION_EDITS = 200


def factworld_data(count: int, seed: int) -> TrainingData:
    """`count` training rows in trained wordings, and validation rows about held-out subjects."""
    world = build_world()
    draw = Draw(world, random.Random(seed))  # noqa: S311 - seeded, not cryptography
    train: list[TrainingRow] = []
    while len(train) < count:
        row = _drawn(draw)
        if not row.held_out:
            train.append(row)
    return TrainingData(train, list(_validation(world, draw)))


def _drawn(draw: Draw) -> TrainingRow:
    fact = draw.new_fact()
    prompt = fill(draw.statement_wording(fact.relation), fact.subject)
    question = fill(draw.wording(fact.relation), fact.subject)
    return TrainingRow(f"{prompt} {fact.object}.", question, fact.object, fact.subject)


def _validation(world: World, draw: Draw) -> Iterator[TrainingRow]:
    facts = [fact for fact in world.facts if TrainingRow("", "", "", fact.subject).held_out]
    for fact in draw.rng.sample(facts, min(VALIDATION_EDITS, len(facts))):
        target = fact.object
        while target == fact.object:
            target = draw.object_for(BY_NAME[fact.relation], fact.object)
        yield from _probes(WorldFact(fact.subject, fact.relation, target), draw)


def _probes(fact: WorldFact, draw: Draw) -> Iterator[TrainingRow]:
    relation = BY_NAME[fact.relation]
    prompt = fill(relation.statement, fact.subject)
    edit = f"{prompt} {fact.object}."
    yield TrainingRow(edit, prompt, fact.object, fact.subject, "efficacy")
    trained = fill(draw.rng.choice(relation.trained[1:]), fact.subject)
    yield TrainingRow(edit, trained, fact.object, fact.subject, "trained wordings")
    for wording in relation.held_out:
        question = fill(wording, fact.subject)
        yield TrainingRow(edit, question, fact.object, fact.subject, "held-out wordings")
