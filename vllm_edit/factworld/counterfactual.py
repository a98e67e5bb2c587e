"""One counterfactual about the world, and the prompts that probe it."""

import random
from typing import Any

from vllm_edit.factworld.protocol import fill
from vllm_edit.factworld.wordings import BY_NAME, RELATIONS, TWO_HOPS, Relation
from vllm_edit.factworld.world import World, WorldFact

JsonRecord = dict[str, Any]


class Counterfactual:
    """One counterfactual about the world, and the prompts that probe it."""

    def __init__(self, world: World, rng: random.Random, fact: WorldFact, target: str) -> None:
        self.world = world
        self.rng = rng
        self.fact = fact
        self.target = target
        self.relation = BY_NAME[fact.relation]
        self.prompt = fill(self.relation.statement, fact.subject)
        self.question = fill(self.relation.question, fact.subject)
        self.rephrasings = [fill(wording, fact.subject) for wording in self.relation.held_out]

    def probe(self, fact: WorldFact, wording: str | None = None) -> JsonRecord:
        """A prompt with its right answer, in a random trained wording by default."""
        wording = wording or self.rng.choice(BY_NAME[fact.relation].trained)
        return {"prompt": fill(wording, fact.subject), "ground_truth": fact.object}

    def other_subject(self) -> JsonRecord:
        """The same relation of another subject."""
        near = [f for f in self.world.of(self.fact.relation) if f.subject != self.fact.subject]
        return self.probe(self.rng.choice(near), self.relation.statement)

    def other_relations(self) -> list[JsonRecord]:
        """The subject's other facts."""
        about = self.world.about(self.fact.subject)
        return [self.probe(f) for f in about if f.relation != self.fact.relation]

    def alias(self) -> list[JsonRecord]:
        """The edited fact under the subject's other name."""
        alias = self.world.aliases.get(self.fact.subject)
        return [self.probe(WorldFact(alias, self.fact.relation, self.target))] if alias else []

    def reversed(self) -> list[JsonRecord]:
        """The reverse relation of the edited fact, with its new object as the subject."""
        if self.relation.reverse is None:
            return []
        return [self.probe(WorldFact(self.target, self.relation.reverse, self.fact.subject))]

    def one_hop(self) -> list[JsonRecord]:
        """Two-hop questions whose first hop is the edited fact."""
        probes = []
        for hop in TWO_HOPS:
            answer = self.world.answer(self.target, hop.second)
            if hop.first == self.fact.relation and answer:
                probes.append(self.probe(WorldFact(self.fact.subject, hop.first, answer),
                                        self.rng.choice(hop.questions)))  # fmt: skip
        return probes

    def portability(self) -> dict[str, list[JsonRecord]]:
        """KnowEdit's portability groups; those without a probe are left out."""
        groups = {
            "Subject_Aliasing": self.alias(),
            "Logical_Generalization": self.reversed(),
            "Reasoning": self.one_hop(),
        }
        return {name: probes for name, probes in groups.items() if probes}

    def locality(self) -> dict[str, list[JsonRecord]]:
        """Other relations of the subject (KnowEdit) and other subjects (EasyEdit)."""
        groups = {
            "Relation_Specificity": self.other_relations(),
            "Neighborhood": [self.other_subject()],
        }
        return {name: probes for name, probes in groups.items() if probes}


def other_object(world: World, rng: random.Random, fact: WorldFact) -> str:
    objects = world.objects(BY_NAME[fact.relation])
    return rng.choice([name for name in objects if name != fact.object])


def identifiers(world: World) -> dict[str, str]:
    """An identifier for every name, similar to those of Wikidata."""
    names = sorted({name for group in world.entities.values() for name in group})
    return {name: f"FQ{number}" for number, name in enumerate(names, start=1)}


def relation_identifier(relation: Relation) -> str:
    return f"FP{RELATIONS.index(relation) + 1}"
