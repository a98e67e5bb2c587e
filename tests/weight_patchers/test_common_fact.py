"""The shipped facts, and facts of a user's file."""

import json
import re
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

import weight_patchers
from weight_patchers.common_fact import CommonFact, read_facts, shipped_facts
from weight_patchers.errors import InvalidEdit, UnreadableText

FILES = sorted((Path(weight_patchers.__file__).parent / "facts").glob("*.yaml"))


def test_a_few_thousand_facts_of_many_relations_are_shipped() -> None:
    facts = shipped_facts()
    assert len(facts) >= 4000
    assert len({fact.relation for fact in facts}) >= 60


def test_a_relation_has_no_subject_twice() -> None:
    counts = Counter((fact.relation, fact.subject) for fact in shipped_facts())
    assert [pair for pair, count in counts.items() if count > 1] == []


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_no_entry_hides_another_one(path: Path) -> None:
    def repeated(node: yaml.Node) -> Iterator[str]:
        if isinstance(node, yaml.MappingNode):
            names = Counter(key.value for key, _ in node.value)
            yield from (name for name, count in names.items() if count > 1)
            for _, value in node.value:
                yield from repeated(value)

    assert list(repeated(yaml.compose(path.read_text(encoding="utf-8")))) == []


def test_prompts_hold_the_subject_and_do_not_give_the_answer_away() -> None:
    for fact in shipped_facts():
        assert len(fact.prompts) >= 2
        for prompt in fact.prompts:
            assert fact.subject in prompt
            assert prompt == prompt.strip()
            assert not re.search(rf"\b{re.escape(fact.answer)}\b", prompt), prompt


def test_each_relation_has_answers_to_choose_from() -> None:
    answers = defaultdict(set)
    for fact in shipped_facts():
        answers[fact.relation].add(fact.answer)
    assert {relation: each for relation, each in answers.items() if len(each) < 4} == {}


def test_a_file_of_json_lines_gives_facts(tmp_path: Path) -> None:
    path = tmp_path / "facts.jsonl"
    lines = [
        {"prompt": "The capital of Peru is", "subject": "Peru", "answer": "Lima"},
        {
            "prompt": "The capital of Mali is",
            "subject": "Mali",
            "answer": "Bamako",
            "rewordings": ["Mali has the capital"],
        },
        {"prompt": "Oslo is in", "subject": "Oslo", "answer": "Norway", "relation": "country"},
    ]
    path.write_text("\n".join(map(json.dumps, lines)) + "\n")
    peru, mali, oslo = read_facts(path)
    assert peru == CommonFact("The capital of {} is", "Peru", "Lima", ("The capital of {} is",))
    assert mali.relation == peru.relation
    assert mali.prompts == ("The capital of Mali is", "Mali has the capital")
    assert oslo.relation == "country"


def test_a_file_laid_out_like_the_shipped_ones_gives_facts(tmp_path: Path) -> None:
    path = tmp_path / "facts.yaml"
    path.write_text("symbol:\n  wordings: ['{} has the symbol']\n  facts: {nobelium: No}\n")
    (fact,) = read_facts(path)
    assert (fact.prompts, fact.answer) == (("nobelium has the symbol",), "No")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("{", "line 1 of .* is no fact"),
        ('{"prompt": "a b", "subject": "a"}', "line 1 of .* is no fact"),
        ('{"prompt": "a b", "subject": "c", "answer": "d"}', "does not contain the subject 'c'"),
    ],
)
def test_what_is_wrong_in_a_file_is_named(tmp_path: Path, text: str, reason: str) -> None:
    path = tmp_path / "facts.jsonl"
    path.write_text(text)
    with pytest.raises(InvalidEdit, match=reason):
        read_facts(path)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(UnreadableText, match="none"):
        read_facts(tmp_path / "none.jsonl")
