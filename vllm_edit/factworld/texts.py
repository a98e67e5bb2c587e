"""Text about the world for editing methods: a corpus for key statistics, IKE demonstrations."""

import random
from collections.abc import Iterator
from dataclasses import dataclass

from vllm_edit.factworld.protocol import fill, statement
from vllm_edit.factworld.wordings import BY_NAME, Relation
from vllm_edit.factworld.world import Fact, World, build_world

# Copies, rewordings and unrelated questions among IKE's demonstrations (4:12:16 of 32).
COPIES, UPDATES, RETAINED = 16, 48, 64


@dataclass(frozen=True)
class Demonstration:
    """A new fact, and a prompt with the answer that is right beside it.

    The statement has no final full stop. `kind` is `copy` where the prompt is the statement's
    own, `update` where it is reworded, `retain` where it is about something else.
    """

    new_fact: str
    prompt: str
    answer: str
    kind: str


def corpus() -> Iterator[str]:
    """True sentences in trained wordings, in a fixed order: about 70,000 tokens."""
    world = build_world()
    rng = random.Random("corpus")
    for _ in range(6):
        for fact in rng.sample(world.surfaces, len(world.surfaces)):
            wording = rng.choice(BY_NAME[fact.relation].trained)
            yield statement(fill(wording, fact.subject), fact.object)


def demonstrations() -> list[Demonstration]:
    """IKE demonstrations that contradict nothing in the world.

    Their new facts are true, or about people and companies that have no other facts, so that
    none of them can mislead a question about anybody else.
    """
    world = build_world()
    rng = random.Random("demonstrations")
    kinds = ["copy"] * COPIES + ["update"] * UPDATES + ["retain"] * RETAINED
    rng.shuffle(kinds)
    return [_demonstration(world, rng, kind) for kind in kinds]


def _demonstration(world: World, rng: random.Random, kind: str) -> Demonstration:
    fact = _harmless(world, rng)
    relation = BY_NAME[fact.relation]
    new_fact = f"{fill(relation.statement, fact.subject)} {fact.object}"
    if kind == "copy":
        prompt = fill(relation.statement, fact.subject)
        return Demonstration(new_fact, prompt, fact.object, kind)
    if kind == "update":
        wording = rng.choice(relation.trained[1:])
        return Demonstration(new_fact, fill(wording, fact.subject), fact.object, kind)
    near = [f for f in world.of(fact.relation) if f.subject != fact.subject]
    asked = rng.choice(near if rng.random() < 0.5 else world.facts)
    wording = rng.choice(BY_NAME[asked.relation].trained)
    return Demonstration(new_fact, fill(wording, asked.subject), asked.object, kind)


def _harmless(world: World, rng: random.Random) -> Fact:
    fact = rng.choice(world.facts)
    relation: Relation = BY_NAME[fact.relation]
    if relation.subject_kind not in world.fictional:
        return fact
    subject = rng.choice(world.fictional[relation.subject_kind])
    return Fact(subject, fact.relation, rng.choice(world.objects(relation)))
