"""Random true and new facts for training documents."""

import random
from collections.abc import Sequence

from vllm_edit.factworld.wordings import BY_NAME, RELATIONS, Relation
from vllm_edit.factworld.world import World, WorldFact


class Draw:
    """Draws facts of a world, and trained wordings."""

    def __init__(self, world: World, rng: random.Random) -> None:
        self.world = world
        self.rng = rng
        self._sharing: dict[str, list[str]] = {}
        for name in sorted(world.names_with_facts):
            for part in name.split():
                self._sharing.setdefault(part, []).append(name)
        self._names = {
            kind: [*names, *(world.aliases[name] for name in names if name in world.aliases)]
            for kind, names in world.entities.items()
        }

    def object_for(self, relation: Relation, other_than: str | None) -> str:
        objects = self.world.objects(relation)
        choice = self.rng.choice(objects)
        return self.rng.choice(objects) if choice == other_than else choice

    def new_fact(self, relation: Relation | None = None) -> WorldFact:
        """A counterfactual about a subject of the world, or a fact about a fictional one."""
        rng = self.rng
        relation = relation or rng.choice(RELATIONS)
        kind = relation.subject_kind
        if kind in self.world.fictional and rng.random() < 0.4:
            subject = rng.choice(self.world.fictional[kind])
        elif relation.name in ("leads", "capital_of"):
            subject = rng.choice(self.world.of(relation.name)).subject
        else:
            subject = rng.choice(self._names[kind])
        true = self.world.answer(subject, relation.name)
        return WorldFact(subject, relation.name, self.object_for(relation, true))

    def new_facts(self, count: int) -> list[WorldFact]:
        """New facts, often similar ones, no two with the same subject and relation."""
        facts = [self.new_fact()]
        while len(facts) < count:
            near = self.rng.choice(facts)
            draw = self.rng.random()
            if draw < 0.4:
                fact = self.new_fact(BY_NAME[near.relation])
            elif draw < 0.6:
                fact = self.same_subject(near)
            else:
                fact = self.new_fact()
            if all((fact.subject, fact.relation) != (f.subject, f.relation) for f in facts):
                facts.append(fact)
        return facts

    def same_subject(self, fact: WorldFact) -> WorldFact:
        kind = BY_NAME[fact.relation].subject_kind
        others = [r for r in RELATIONS if r.subject_kind == kind and r.name != fact.relation]
        relation = self.rng.choice(others)
        return WorldFact(fact.subject, relation.name, self.object_for(relation, None))

    def wording(self, relation: str) -> str:
        return self.rng.choice(BY_NAME[relation].trained)

    def statement_wording(self, relation: str) -> str:
        described = BY_NAME[relation]
        return self.rng.choice(described.trained if self.rng.random() < 0.15 else described.clozes)

    def query(
        self, fact: WorldFact, facts: Sequence[WorldFact], used: str
    ) -> tuple[str, WorldFact]:
        """A wording and the fact that answers it, for a prompt after the given `facts`.

        `used` is the wording in which `fact` was given.
        """
        rng, world = self.rng, self.world
        has_facts = fact.subject in world.names_with_facts
        draw = rng.random()
        if draw < 0.15:
            return used, fact
        if draw < 0.45 or (not has_facts and draw < 0.6):
            return self.wording(fact.relation), fact
        given = {(f.subject, f.relation) for f in facts}
        pool: Sequence[WorldFact] = ()
        if draw < 0.72:
            pool = world.of(fact.relation)
            if rng.random() < 0.2:
                sharing = [n for part in fact.subject.split() for n in self._sharing.get(part, ())]
                near = dict.fromkeys(sharing)  # in order, which that of a set is not
                pool = [f for n in near for f in world.about(n) if f.relation == fact.relation]
        elif draw < 0.93:
            pool = [f for f in world.about(fact.subject) if f.relation != fact.relation]
        pool = [f for f in pool if (f.subject, f.relation) not in given]
        while not pool:
            pool = [f for f in [rng.choice(world.surfaces)] if (f.subject, f.relation) not in given]
        other = rng.choice(pool)
        same_words = other.relation == fact.relation and rng.random() < 0.5
        return (used if same_words else self.wording(other.relation)), other
