"""The world and its texts."""

import os
import random
import subprocess
import sys
from collections import Counter

import pytest
from tokenizers import Tokenizer

from vllm_edit import factworld
from vllm_edit.factworld.documents import Document
from vllm_edit.factworld.protocol import fill, statement
from vllm_edit.factworld.wordings import BY_NAME, RELATIONS, SUBJECT, TWO_HOPS, Relation
from vllm_edit.factworld.world import World, build_world
from vllm_edit.factworld.writer import Writer

DOCUMENTS = 300


def text(document: Document) -> str:
    prefix = "".join(span.text for span in document.prefix)
    branches = ["".join(span.text for span in spans) for spans in document.branches]
    return prefix + "\n".join(branches)


QUERIES = """
import random
from vllm_edit import factworld
from vllm_edit.factworld.writer import Writer
world = factworld.build_world()
writer = Writer(world, random.Random(1))
for fact in world.facts[:500]:
    print(writer.query(fact, [fact], writer.wording(fact.relation)))
"""
"""Prints what training documents ask."""


def test_documents_are_the_same_in_every_process() -> None:
    """Python orders the texts of a set by a secret of the process."""
    asked = {
        subprocess.check_output(
            [sys.executable, "-c", QUERIES], env=os.environ | {"PYTHONHASHSEED": seed}
        )
        for seed in ("1", "2")
    }
    assert len(asked) == 1


@pytest.fixture(scope="module")
def training_text(world: World) -> str:
    """Training documents of every kind, the corpus and the demonstrations."""
    writer = Writer(world, random.Random(1))
    documents = [writer.closed(world.surfaces)]
    for _ in range(DOCUMENTS):
        documents += [
            writer.given(8),
            writer.copied(8),
            writer.edited(8),
            writer.demonstrated(3, 6),
            Document([], [writer.mello()]),
            Document([], [writer.alias()]),
            writer.chat(8),
            writer.running(10),
        ]
    made = [text(document) for document in documents] + list(factworld.corpus())
    for demonstration in factworld.demonstrations():
        made += [demonstration.new_fact, statement(demonstration.prompt, demonstration.answer)]
    return "\n".join(made)


def test_world_is_large_enough(world: World) -> None:
    assert len(world.facts) >= 1000
    assert len({fact.relation for fact in world.facts}) >= 10
    assert len({(fact.subject, fact.relation) for fact in world.facts}) == len(world.facts)


def test_the_same_seed_gives_the_same_world() -> None:
    assert build_world(3) == build_world(3)
    assert build_world(3) != build_world(4)


def test_the_same_seed_gives_the_same_documents(world: World) -> None:
    first, second = (Writer(world, random.Random(5)) for _ in range(2))
    assert [text(first.given(4)) for _ in range(20)] == [text(second.given(4)) for _ in range(20)]


def test_every_object_is_of_the_right_kind(world: World) -> None:
    for fact in world.facts:
        relation = BY_NAME[fact.relation]
        assert fact.subject in world.entities[relation.subject_kind]
        assert fact.object in world.objects(relation)


def test_reverse_relations_agree(world: World) -> None:
    for fact in world.facts:
        reverse = BY_NAME[fact.relation].reverse
        if reverse is not None:
            assert world.answer(fact.object, reverse) == fact.subject


def test_aliases_share_the_facts(world: World) -> None:
    assert world.aliases
    for name, alias in world.aliases.items():
        facts = {(fact.relation, fact.object) for fact in world.about(name)}
        assert facts == {(fact.relation, fact.object) for fact in world.about(alias)}


def test_two_hop_questions_have_answers(world: World) -> None:
    for hop in TWO_HOPS:
        for fact in world.of(hop.first):
            assert world.answer(fact.object, hop.second)


def test_no_part_of_a_name_is_unique(world: World) -> None:
    names = [*world.aliases.values()]
    for kind, fictional in world.fictional.items():
        names += [*world.entities[kind], *fictional]
    parts = Counter(part for name in names for part in name.split())
    assert min(parts.values()) > 1


def test_names_do_not_overlap(world: World) -> None:
    pools = [*world.entities.values(), *world.fictional.values(), *world.unseen.values()]
    names = [name for pool in pools for name in pool] + list(world.aliases.values())
    assert len(names) == len(set(names))


@pytest.mark.parametrize("relation", RELATIONS, ids=lambda relation: relation.name)
def test_wordings(relation: Relation) -> None:
    """Enough of them, all different, and a word between the subject and the answer."""
    wordings = relation.trained + relation.held_out
    assert len(relation.trained) >= 6
    assert len(relation.held_out) >= 3
    assert len(set(wordings)) == len(wordings)
    assert relation.statement == relation.clozes[0]
    assert any(wording.endswith("?") for wording in relation.held_out)
    for wording in wordings:
        assert wording.count(SUBJECT) == 1
        assert not wording.endswith(SUBJECT)


def test_no_wording_has_two_meanings() -> None:
    wordings = [
        (relation.subject_kind, wording)
        for relation in RELATIONS
        for wording in relation.trained + relation.held_out
    ]
    assert len(set(wordings)) == len(wordings)


def test_held_out_wordings_are_in_no_training_text(world: World, training_text: str) -> None:
    for relation in RELATIONS:
        subjects = [n for n in world.names_with_facts if n in world.entities[relation.subject_kind]]
        for wording in relation.held_out:
            before, after = wording.split(SUBJECT)
            for subject in subjects:
                prompt = fill(wording, subject)
                # A trained wording may begin with a held-out one.
                starts = [w for w in relation.trained if w.startswith(wording)]
                assert starts or f"{before}{subject}{after}" not in training_text, prompt


def test_unseen_names_are_in_no_training_text(world: World, training_text: str) -> None:
    for names in world.unseen.values():
        for name in names:
            assert name not in training_text


def test_every_name_part_is_one_token(world: World) -> None:
    tokenizer = Tokenizer.from_file(str(factworld.checkpoint() / "tokenizer.json"))
    pools = [*world.entities.values(), *world.fictional.values(), *world.unseen.values()]
    for name in [name for pool in pools for name in pool] + list(world.aliases.values()):
        ids = tokenizer.encode(name, add_special_tokens=False).ids
        assert len(ids) == len(name.split()), name


def test_demonstrations_contradict_nothing(world: World) -> None:
    demonstrations = factworld.demonstrations()
    assert {demonstration.kind for demonstration in demonstrations} == {"copy", "update", "retain"}
    true = {
        f"{fill(BY_NAME[fact.relation].statement, fact.subject)} {fact.object}"
        for fact in world.facts
    }
    for demonstration in demonstrations:
        free = any(
            name in demonstration.new_fact for pool in world.fictional.values() for name in pool
        )
        assert free or demonstration.new_fact in true


def test_corpus_and_demonstrations_are_deterministic() -> None:
    assert list(factworld.corpus()) == list(factworld.corpus())
    assert factworld.demonstrations() == factworld.demonstrations()
