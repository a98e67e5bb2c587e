"""Texts about the world: a corpus for key statistics, and IKE demonstrations."""

import random
from collections.abc import Iterator
from typing import TYPE_CHECKING

from vllm_edit.factworld.protocol import fill, statement
from vllm_edit.factworld.wordings import BY_NAME, Relation
from vllm_edit.factworld.world import World, WorldFact, build_world

if TYPE_CHECKING:
    from retriever import Demonstration
    from retriever.ike.demonstrations import Kind

# Copies, rewordings and unrelated questions among IKE's demonstrations (4:12:16 of 32).
COUNTS: "dict[Kind, int]" = {"copy": 16, "update": 48, "retain": 64}

# The small model copies answers from demonstrations of the relation that a request asks for. So the
# demonstrations use two relations that few facts of the world have.
RELATIONS_SHOWN = ("continent", "product")


def corpus() -> Iterator[str]:
    """True sentences in trained wordings, in a fixed order: about 70,000 tokens."""
    world = build_world()
    rng = random.Random("corpus")
    for _ in range(6):
        for fact in rng.sample(world.surfaces, len(world.surfaces)):
            wording = rng.choice(BY_NAME[fact.relation].trained)
            yield statement(fill(wording, fact.subject), fact.object)


def demonstrations() -> "list[Demonstration]":
    """IKE demonstrations that contradict nothing in the world, in a fixed order.

    Their new facts are true, or about people and companies without other facts, so they cannot
    mislead a question about another subject.
    """
    world = build_world()
    rng = random.Random("demonstrations")
    kinds = [kind for kind, count in COUNTS.items() for _ in range(count)]
    rng.shuffle(kinds)
    return [_demonstration(world, rng, kind) for kind in kinds]


def _demonstration(world: World, rng: random.Random, kind: "Kind") -> "Demonstration":
    # Imported here because it imports FAISS, which the world itself does not need.
    from retriever import Demonstration

    fact = _harmless(world, rng)
    relation = BY_NAME[fact.relation]
    new_fact = f"{fill(relation.statement, fact.subject)} {fact.object}"
    if kind == "copy":
        prompt = fill(relation.statement, fact.subject)
        return Demonstration(new_fact, prompt, fact.object, kind)
    if kind == "update":
        wording = rng.choice(relation.trained[1:])
        return Demonstration(new_fact, fill(wording, fact.subject), fact.object, kind)
    retained = rng.choice([f for f in _facts_shown(world) if f.subject != fact.subject])
    wording = rng.choice(BY_NAME[retained.relation].trained)
    return Demonstration(new_fact, fill(wording, retained.subject), retained.object, kind)


def _harmless(world: World, rng: random.Random) -> WorldFact:
    fact = rng.choice(_facts_shown(world))
    relation: Relation = BY_NAME[fact.relation]
    if relation.subject_kind not in world.fictional:
        return fact
    subject = rng.choice(world.fictional[relation.subject_kind])
    return WorldFact(subject, fact.relation, rng.choice(world.objects(relation)))


def _facts_shown(world: World) -> list[WorldFact]:
    return [fact for name in RELATIONS_SHOWN for fact in world.of(name)]
