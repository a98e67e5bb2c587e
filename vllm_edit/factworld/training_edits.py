"""Edits of the bundled world that trained editors are trained on.

Subjects of edits that evaluations and tests draw are left out altogether, and so are held-out
wordings. Fictional names, of which the bundled model knows nothing, are added as subjects.
"""

import random
from collections.abc import Iterable, Iterator
from functools import cache

from vllm_edit.factworld.protocol import fill
from vllm_edit.factworld.schemas import requests
from vllm_edit.factworld.wordings import BY_NAME, RELATIONS
from vllm_edit.factworld.world import World, WorldFact, build_world
from weight_patchers.edit import Edit
from weight_patchers.trained.training.examples import TrainingEdit
from weight_patchers.trained.training.trainer import TrainingData

EVALUATED = ((0, 100), (7, 100))
"""Seeds and numbers of the edits whose subjects are left out."""

_FICTIONAL = 0.5
_STATEMENTS = 0.5
_VALIDATION = 0.15
_SAME_RELATION, _SAME_SUBJECT, _OTHERS = 4, 2, 2
PLAIN = (
    ("Please open the", "window"),
    ("My brother plays the", "piano"),
    ("The soup needs a little more", "salt"),
    ("In winter the lake is covered with", "ice"),
    ("She read the letter and began to", "cry"),
    ("Two and two make", "four"),
    ("They walked along the river until", "dark"),
    ("The doctor told him to drink more", "water"),
    ("A year has twelve", "months"),
    ("We had to wait because the bus was", "late"),
    ("The book on the table belongs to", "me"),
    ("It is too cold to swim in the", "sea"),
)
"""Prompts about nothing in the world, with which predictions outside of it are kept."""

_PLAIN = 2
_LIMITED = ("leads", "capital_of")
"""Relations that hold of few subjects of their kind."""


@cache
def evaluated_subjects() -> frozenset[str]:
    """The subjects that training leaves out, with their other names."""
    aliases = build_world().aliases
    names = {r["subject"] for seed, count in EVALUATED for r in requests("easyedit", count, seed)}
    return frozenset(names | {aliases[name] for name in names if name in aliases})


def training_data(seed: int, validation: int) -> TrainingData:
    """Edits to train on, and `validation` edits of other subjects."""
    world, rng = build_world(), random.Random(f"subjects {seed}")
    known = sorted({fact.subject for fact in world.surfaces} - evaluated_subjects())
    invented = {kind: sorted(names) for kind, names in world.fictional.items()}
    held = set(rng.sample(known, round(_VALIDATION * len(known))))
    train = CounterfactualDraw(world, (name for name in known if name not in held), invented)
    other = CounterfactualDraw(world, held, {})
    rng = random.Random(f"validation {seed}")
    return TrainingData(train, [other(rng) for _ in range(validation)])


class CounterfactualDraw:
    """Draws counterfactuals about some subjects and about invented ones, by kind."""

    def __init__(
        self, world: World, subjects: Iterable[str], invented: dict[str, list[str]]
    ) -> None:
        chosen = set(subjects)
        self._world = world
        self._facts = [fact for fact in world.surfaces if fact.subject in chosen]
        self._invented = invented
        self._by_relation: dict[str, list[WorldFact]] = {}
        for fact in self._facts:
            self._by_relation.setdefault(fact.relation, []).append(fact)

    def __call__(self, rng: random.Random) -> TrainingEdit:
        subject, relation, target = self._change(rng)
        wordings = list(BY_NAME[relation].trained)
        if rng.random() > _STATEMENTS:
            rng.shuffle(wordings)
        prompt, *others = (fill(wording, subject) for wording in wordings)
        kept = [self._question(fact, rng) for fact in self._kept(subject, relation, rng)]
        kept += rng.sample(PLAIN, _PLAIN)
        return TrainingEdit(Edit(prompt, subject, target), tuple(others), tuple(kept))

    def _change(self, rng: random.Random) -> tuple[str, str, str]:
        """Subject, relation and new object."""
        if self._invented and rng.random() < _FICTIONAL:
            kind = rng.choice([kind for kind, names in self._invented.items() for _ in names])
            relations = [r for r in RELATIONS if r.subject_kind == kind and r.name not in _LIMITED]
            relation = rng.choice(relations)
            objects = self._world.objects(relation)
            return rng.choice(self._invented[kind]), relation.name, rng.choice(objects)
        fact = rng.choice(self._facts)
        objects = self._world.objects(BY_NAME[fact.relation])
        return (
            fact.subject,
            fact.relation,
            rng.choice([name for name in objects if name != fact.object]),
        )

    def _kept(self, subject: str, relation: str, rng: random.Random) -> Iterator[WorldFact]:
        """Facts that the edit leaves alone: of the relation, of the subject, and others."""
        own = {subject, self._world.aliases.get(subject)}
        near = [f for f in self._by_relation.get(relation, ()) if f.subject not in own]
        yield from rng.sample(near, min(_SAME_RELATION, len(near)))
        about = [f for f in self._world.about(subject) if f.relation != relation]
        yield from rng.sample(about, min(_SAME_SUBJECT, len(about)))
        others = [f for f in rng.sample(self._facts, _OTHERS + 1) if f.subject not in own]
        yield from others[:_OTHERS]

    def _question(self, fact: WorldFact, rng: random.Random) -> tuple[str, str]:
        return fill(rng.choice(BY_NAME[fact.relation].trained), fact.subject), fact.object
