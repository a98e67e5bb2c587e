"""Seeded edit requests about the world, with their probes, in published schemas."""

import random
from collections.abc import Callable

from vllm_edit.factworld.counterfactual import (
    Counterfactual,
    JsonRecord,
    identifiers,
    other_object,
    relation_identifier,
)
from vllm_edit.factworld.mquake import mquake
from vllm_edit.factworld.protocol import fill
from vllm_edit.factworld.world import World, build_world

PROBES = 10


def requests(schema: str, n: int, seed: int) -> list[JsonRecord]:
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
    return [Counterfactual(world, rng, fact, other_object(world, rng, fact)) for fact in facts]


def _easyedit(world: World, rng: random.Random, n: int) -> list[JsonRecord]:
    return [_flat(edit, case) for case, edit in enumerate(_edits(world, rng)[:n])]


def _flat(edit: Counterfactual, case: int) -> JsonRecord:
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


def _knowedit(world: World, rng: random.Random, n: int) -> list[JsonRecord]:
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


def _zsre(world: World, rng: random.Random, n: int) -> list[JsonRecord]:
    records = []
    for edit in _edits(world, rng)[:n]:
        near = edit.other_subject()
        rephrased = [prompt for prompt in edit.rephrasings if prompt.endswith("?")]
        record: JsonRecord = {
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


def _counterfact(world: World, rng: random.Random, n: int) -> list[JsonRecord]:
    """Only facts whose object another subject has too: CounterFact's neighbourhood needs one."""
    records: list[JsonRecord] = []
    for edit in _edits(world, rng):
        near = _prompts(edit, edit.fact.object)
        if len(records) < n and near:
            records.append(_counterfact_record(edit, len(records), near))
    return records


def _counterfact_record(edit: Counterfactual, case: int, near: list[str]) -> JsonRecord:
    ids = identifiers(edit.world)
    others = edit.other_relations()
    return {
        "case_id": case,
        "pararel_idx": case,
        "requested_rewrite": {
            "prompt": edit.relation.statement.replace("{s}", "{}"),
            "relation_id": relation_identifier(edit.relation),
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
    """Prompts of the same relation for other subjects with this object, in several wordings."""
    wordings = edit.relation.clozes
    subjects = [
        fact.subject
        for fact in edit.world.of(edit.fact.relation)
        if fact.object == target and fact.subject != edit.fact.subject
    ]
    prompts = [fill(wording, subject) for wording in wordings for subject in subjects]
    return prompts[:PROBES]


SCHEMAS: dict[str, Callable[[World, random.Random, int], list[JsonRecord]]] = {
    "easyedit": _easyedit,
    "counterfact": _counterfact,
    "zsre": _zsre,
    "knowedit": _knowedit,
    "mquake": mquake,
}
