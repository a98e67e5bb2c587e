"""Multi-hop edit requests in MQuAKE's schema."""

import random
from collections.abc import Sequence

from vllm_edit.factworld.counterfactual import (
    JsonRecord,
    identifiers,
    other_object,
    relation_identifier,
)
from vllm_edit.factworld.protocol import fill
from vllm_edit.factworld.wordings import BY_NAME, TWO_HOPS, TwoHop
from vllm_edit.factworld.world import World, WorldFact


def mquake(world: World, rng: random.Random, n: int) -> list[JsonRecord]:
    """Two-hop cases whose edits do not contradict each other, so all can apply at once."""
    chains = [(hop, fact) for hop in TWO_HOPS for fact in world.of(hop.first)]
    rng.shuffle(chains)
    settled: dict[tuple[str, str], str] = {}
    records: list[JsonRecord] = []
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


def _next(world: World, subject: str, hop: TwoHop) -> WorldFact:
    return WorldFact(subject, hop.second, world.answer(subject, hop.second) or "")


def _edited(world: World, rng: random.Random, fact: WorldFact) -> WorldFact:
    return WorldFact(fact.subject, fact.relation, other_object(world, rng, fact))


def _mquake_record(
    world: World, hop: TwoHop, case: int, old: Sequence[WorldFact], new: Sequence[WorldFact],
    edits: Sequence[WorldFact],
) -> JsonRecord:  # fmt: skip
    ids = identifiers(world)

    def named(name: str) -> JsonRecord:
        return {"str": name, "id": ids[name]}

    def rewrite(fact: WorldFact) -> JsonRecord:
        relation = BY_NAME[fact.relation]
        return {
            "prompt": relation.statement.replace("{s}", "{}"),
            "relation_id": relation_identifier(relation),
            "target_new": named(fact.object),
            "target_true": named(world.answer(fact.subject, fact.relation) or ""),
            "subject": fact.subject,
            "question": fill(relation.question, fact.subject),
        }

    def hops(facts: Sequence[WorldFact]) -> list[JsonRecord]:
        return [
            {
                "question": fill(BY_NAME[f.relation].question, f.subject),
                "cloze": fill(BY_NAME[f.relation].statement, f.subject),
                "answer": f.object,
                "answer_alias": _aliases(world, f.object),
            }
            for f in facts
        ]

    def labelled(facts: Sequence[WorldFact]) -> list[list[str]]:
        return [[f.subject, f.relation.replace("_", " "), f.object] for f in facts]

    def triples(facts: Sequence[WorldFact]) -> list[list[str]]:
        return [
            [ids[f.subject], relation_identifier(BY_NAME[f.relation]), ids[f.object]] for f in facts
        ]

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
