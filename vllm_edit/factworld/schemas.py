"""Seeded edit requests about the world, with their probes, in published schemas."""

import random
from collections.abc import Callable, Sequence
from typing import Any

from vllm_edit.factworld.protocol import fill
from vllm_edit.factworld.wordings import BY_NAME, RELATIONS, TWO_HOPS, Relation, TwoHop
from vllm_edit.factworld.world import Fact, World, build_world

Record = dict[str, Any]

PROBES = 10


class Counterfactual:
    """One counterfactual about the world, and the prompts that probe it."""

    def __init__(self, world: World, rng: random.Random, fact: Fact, target: str) -> None:
        self.world = world
        self.rng = rng
        self.fact = fact
        self.target = target
        self.relation = BY_NAME[fact.relation]
        self.prompt = fill(self.relation.statement, fact.subject)
        self.question = fill(self.relation.question, fact.subject)
        self.rephrasings = [fill(wording, fact.subject) for wording in self.relation.held_out]

    def probe(self, fact: Fact, wording: str | None = None) -> Record:
        """A prompt with its right answer; a trained wording if none is given."""
        wording = wording or self.rng.choice(BY_NAME[fact.relation].trained)
        return {"prompt": fill(wording, fact.subject), "ground_truth": fact.object}

    def other_subject(self) -> Record:
        """The same relation of another subject."""
        near = [f for f in self.world.of(self.fact.relation) if f.subject != self.fact.subject]
        return self.probe(self.rng.choice(near), self.relation.statement)

    def other_relations(self) -> list[Record]:
        """The subject's other facts."""
        about = self.world.about(self.fact.subject)
        return [self.probe(f) for f in about if f.relation != self.fact.relation]

    def alias(self) -> list[Record]:
        """The edited fact under the subject's other name."""
        alias = self.world.aliases.get(self.fact.subject)
        return [self.probe(Fact(alias, self.fact.relation, self.target))] if alias else []

    def reversed(self) -> list[Record]:
        """The edited fact asked from its new object."""
        if self.relation.reverse is None:
            return []
        return [self.probe(Fact(self.target, self.relation.reverse, self.fact.subject))]

    def one_hop(self) -> list[Record]:
        """Two-hop questions whose first hop is the edited fact."""
        found = []
        for hop in TWO_HOPS:
            answer = self.world.answer(self.target, hop.second)
            if hop.first == self.fact.relation and answer:
                found.append(self.probe(Fact(self.fact.subject, hop.first, answer),
                                        self.rng.choice(hop.questions)))  # fmt: skip
        return found

    def portability(self) -> dict[str, list[Record]]:
        """KnowEdit's portability groups; those without a probe are left out."""
        groups = {
            "Subject_Aliasing": self.alias(),
            "Logical_Generalization": self.reversed(),
            "Reasoning": self.one_hop(),
        }
        return {name: probes for name, probes in groups.items() if probes}

    def locality(self) -> dict[str, list[Record]]:
        """Other relations of the subject (KnowEdit) and other subjects (EasyEdit)."""
        groups = {
            "Relation_Specificity": self.other_relations(),
            "Neighborhood": [self.other_subject()],
        }
        return {name: probes for name, probes in groups.items() if probes}


def requests(schema: str, n: int, seed: int) -> list[Record]:
    """`n` edits of different facts of the bundled world, the same for the same seed.

    Raises ValueError for an unknown schema, and if the world has fewer than `n` such edits.
    """
    if schema not in SCHEMAS:
        raise ValueError(f"unknown schema {schema!r}: choose one of {', '.join(SCHEMAS)}")
    if n < 0:
        raise ValueError(f"cannot make {n} requests: ask for 0 or more")
    world = build_world()
    records = SCHEMAS[schema](world, random.Random(f"{schema} {seed}"), n)
    if len(records) < n:
        raise ValueError(f"the world has only {len(records)} {schema} edits: ask for fewer")
    return records


def _edits(world: World, rng: random.Random) -> list[Counterfactual]:
    facts = rng.sample(world.facts, len(world.facts))
    return [Counterfactual(world, rng, fact, _other(world, rng, fact)) for fact in facts]


def _other(world: World, rng: random.Random, fact: Fact) -> str:
    objects = world.objects(BY_NAME[fact.relation])
    return rng.choice([name for name in objects if name != fact.object])


def _easyedit(world: World, rng: random.Random, n: int) -> list[Record]:
    return [_flat(edit, case) for case, edit in enumerate(_edits(world, rng)[:n])]


def _flat(edit: Counterfactual, case: int) -> Record:
    near = edit.other_subject()
    return {
        "case_id": case,
        "prompt": edit.prompt,
        "target_new": edit.target,
        "subject": edit.fact.subject,
        "ground_truth": edit.fact.object,
        "rephrase_prompt": edit.rephrasings[0],
        "locality_prompt": near["prompt"],
        "locality_ground_truth": near["ground_truth"],
        "rephrase_prompts": edit.rephrasings,
        "portability": edit.portability(),
        "locality": edit.locality(),
    }


def _knowedit(world: World, rng: random.Random, n: int) -> list[Record]:
    return [
        {
            "subject": edit.fact.subject,
            "prompt": edit.prompt,
            "target_new": edit.target,
            "ground_truth": edit.fact.object,
            "rephrase_prompt": edit.rephrasings[0],
            "portability": edit.portability(),
            "locality": edit.locality(),
        }
        for edit in _edits(world, rng)[:n]
    ]


def _zsre(world: World, rng: random.Random, n: int) -> list[Record]:
    records = []
    for edit in _edits(world, rng)[:n]:
        near = edit.other_subject()
        rephrased = [prompt for prompt in edit.rephrasings if prompt.endswith("?")]
        record: Record = {
            "subject": edit.fact.subject,
            "src": edit.question,
            "pred": edit.fact.object,
            "rephrase": rephrased[0],
            "alt": edit.target,
            "answers": [edit.fact.object],
            "loc": near["prompt"],
            "loc_ans": near["ground_truth"],
            "cond": f"{edit.fact.object} >> {edit.target} || {edit.question}",
        }
        hops = edit.one_hop()
        if hops:
            record["portability"] = {
                "New Question": hops[0]["prompt"],
                "New Answer": hops[0]["ground_truth"],
            }
        records.append(record)
    return records


def _counterfact(world: World, rng: random.Random, n: int) -> list[Record]:
    """Only facts whose object another subject shares, as CounterFact's neighbourhood needs."""
    records: list[Record] = []
    for edit in _edits(world, rng):
        near = _prompts(edit, edit.fact.object)
        if len(records) < n and near:
            records.append(_counterfact_record(edit, len(records), near))
    return records


def _counterfact_record(edit: Counterfactual, case: int, near: list[str]) -> Record:
    ids = _ids(edit.world)
    others = edit.other_relations()
    return {
        "case_id": case,
        "pararel_idx": case,
        "requested_rewrite": {
            "prompt": edit.relation.statement.replace("{s}", "{}"),
            "relation_id": _relation_id(edit.relation),
            "target_new": {"str": edit.target, "id": ids[edit.target]},
            "target_true": {"str": edit.fact.object, "id": ids[edit.fact.object]},
            "subject": edit.fact.subject,
        },
        "paraphrase_prompts": edit.rephrasings[:2],
        "neighborhood_prompts": near,
        "attribute_prompts": _prompts(edit, edit.target),
        "generation_prompts": [
            edit.rng.choice(others or [{"prompt": edit.prompt}])["prompt"] for _ in range(PROBES)
        ],
    }


def _prompts(edit: Counterfactual, target: str) -> list[str]:
    """The relation asked of other subjects that have this object, in several wordings."""
    wordings = edit.relation.clozes
    subjects = [
        fact.subject
        for fact in edit.world.of(edit.fact.relation)
        if fact.object == target and fact.subject != edit.fact.subject
    ]
    prompts = [fill(wording, subject) for wording in wordings for subject in subjects]
    return prompts[:PROBES]


def _mquake(world: World, rng: random.Random, n: int) -> list[Record]:
    """Two-hop cases whose edits agree with one another, so that all can be applied at once."""
    chains = [(hop, fact) for hop in TWO_HOPS for fact in world.of(hop.first)]
    rng.shuffle(chains)
    settled: dict[tuple[str, str], str] = {}
    records: list[Record] = []
    for hop, fact in chains:
        if len(records) == n:
            break
        old = [fact, _next(world, fact.object, hop)]
        first, second = rng.choice(((True, False), (False, True), (True, True)))
        new = [_edited(world, rng, old[0]) if first else old[0]]
        follow = _next(world, new[0].object, hop)
        new.append(_edited(world, rng, follow) if second else follow)
        if any(settled.get((f.subject, f.relation), f.object) != f.object for f in new):
            continue
        settled |= {(f.subject, f.relation): f.object for f in new}
        edits = [f for f in new if world.answer(f.subject, f.relation) != f.object]
        records.append(_mquake_record(world, hop, len(records), old, new, edits))
    return records


def _next(world: World, subject: str, hop: TwoHop) -> Fact:
    return Fact(subject, hop.second, world.answer(subject, hop.second) or "")


def _edited(world: World, rng: random.Random, fact: Fact) -> Fact:
    return Fact(fact.subject, fact.relation, _other(world, rng, fact))


def _mquake_record(
    world: World, hop: TwoHop, case: int, old: Sequence[Fact], new: Sequence[Fact],
    edits: Sequence[Fact],
) -> Record:  # fmt: skip
    ids = _ids(world)

    def named(name: str) -> Record:
        return {"str": name, "id": ids[name]}

    def rewrite(fact: Fact) -> Record:
        relation = BY_NAME[fact.relation]
        return {
            "prompt": relation.statement.replace("{s}", "{}"),
            "relation_id": _relation_id(relation),
            "target_new": named(fact.object),
            "target_true": named(world.answer(fact.subject, fact.relation) or ""),
            "subject": fact.subject,
            "question": fill(relation.question, fact.subject),
        }

    def hops(facts: Sequence[Fact]) -> list[Record]:
        return [
            {
                "question": fill(BY_NAME[f.relation].question, f.subject),
                "cloze": fill(BY_NAME[f.relation].statement, f.subject),
                "answer": f.object,
                "answer_alias": _aliases(world, f.object),
            }
            for f in facts
        ]

    def labelled(facts: Sequence[Fact]) -> list[list[str]]:
        return [[f.subject, f.relation.replace("_", " "), f.object] for f in facts]

    def triples(facts: Sequence[Fact]) -> list[list[str]]:
        return [[ids[f.subject], _relation_id(BY_NAME[f.relation]), ids[f.object]] for f in facts]

    return {
        "case_id": case,
        "requested_rewrite": [rewrite(fact) for fact in edits],
        "questions": [fill(question, old[0].subject) for question in hop.questions],
        "answer": old[1].object,
        "answer_alias": _aliases(world, old[1].object),
        "new_answer": new[1].object,
        "new_answer_alias": _aliases(world, new[1].object),
        "single_hops": hops(old),
        "new_single_hops": hops(new),
        "orig": {
            "triples": triples(old),
            "triples_labeled": labelled(old),
            "new_triples": triples(new),
            "new_triples_labeled": labelled(new),
            "edit_triples": triples(edits),
        },
    }


def _aliases(world: World, name: str) -> list[str]:
    return [world.aliases[name]] if name in world.aliases else []


def _ids(world: World) -> dict[str, str]:
    """An identifier for every name, in the style of Wikidata's but of this world only."""
    names = sorted({name for group in world.entities.values() for name in group})
    return {name: f"FQ{number}" for number, name in enumerate(names, start=1)}


def _relation_id(relation: Relation) -> str:
    return f"FP{RELATIONS.index(relation) + 1}"


SCHEMAS: dict[str, Callable[[World, random.Random, int], list[Record]]] = {
    "easyedit": _easyedit,
    "counterfact": _counterfact,
    "zsre": _zsre,
    "knowedit": _knowedit,
    "mquake": _mquake,
}
