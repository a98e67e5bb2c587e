"""Edit requests in the published schemas."""

import json
from typing import Any

import pytest

from vllm_edit import factworld
from vllm_edit.cli import main
from vllm_edit.factworld.schemas import SCHEMAS
from vllm_edit.factworld.wordings import BY_NAME, RELATIONS
from vllm_edit.factworld.world import World

COUNT = 120
PROBE = {"prompt", "ground_truth"}


def made(schema: str) -> list[dict[str, Any]]:
    return factworld.requests(schema, COUNT, 0)


@pytest.mark.parametrize("schema", SCHEMAS)
def test_requests_are_seeded_json(schema: str) -> None:
    records = made(schema)
    assert len(records) == COUNT
    assert json.loads(json.dumps(records)) == records
    assert made(schema) == records
    assert factworld.requests(schema, COUNT, 1) != records
    assert factworld.requests(schema, 10, 0) == records[:10]


def test_unknown_schema_is_refused() -> None:
    with pytest.raises(ValueError, match="choose one of easyedit"):
        factworld.requests("csv", 1, 0)


@pytest.mark.parametrize("count", [-1, 10_000])
def test_impossible_counts_are_refused(count: int) -> None:
    with pytest.raises(ValueError, match="ask for"):
        factworld.requests("easyedit", count, 0)


def test_easyedit() -> None:
    for record in made("easyedit"):
        texts = [
            record[name]
            for name in (
                "prompt", "subject", "target_new", "ground_truth", "rephrase_prompt",
                "locality_prompt", "locality_ground_truth",
            )
        ]  # fmt: skip
        assert all(isinstance(text, str) and text for text in texts)
        assert record["subject"] in record["prompt"]
        assert record["subject"] in record["rephrase_prompt"]
        assert record["subject"] not in record["locality_prompt"]
        assert record["target_new"] != record["ground_truth"]
        assert len(record["rephrase_prompts"]) == 3


@pytest.mark.parametrize("schema", ["easyedit", "knowedit"])
def test_probes(schema: str, world: World) -> None:
    records = made(schema)
    groups = {name for record in records for name in record["portability"]}
    assert groups == {"Subject_Aliasing", "Logical_Generalization", "Reasoning"}
    for record in records:
        assert "Neighborhood" in record["locality"]
        for probes in [*record["portability"].values(), *record["locality"].values()]:
            assert probes
            assert all(set(probe) == PROBE for probe in probes)
        for probe in record["locality"].get("Relation_Specificity", []):
            assert record["subject"] in probe["prompt"]
        for probe in record["portability"].get("Subject_Aliasing", []):
            assert world.aliases[record["subject"]] in probe["prompt"]
            assert probe["ground_truth"] == record["target_new"]
        for probe in record["portability"].get("Logical_Generalization", []):
            assert record["target_new"] in probe["prompt"]
            assert probe["ground_truth"] == record["subject"]
        for probe in record["portability"].get("Reasoning", []):
            assert record["subject"] in probe["prompt"]


def test_locality_probes_are_true(world: World) -> None:
    answers = {fact.object for fact in world.facts}
    for record in made("knowedit"):
        true = {fact.object for fact in world.about(record["subject"])}
        assert record["ground_truth"] in true
        for probe in record["locality"].get("Relation_Specificity", []):
            assert probe["ground_truth"] in true
        assert record["locality"]["Neighborhood"][0]["ground_truth"] in answers


def test_zsre() -> None:
    records = made("zsre")
    for record in records:
        assert record["src"].endswith("?")
        assert record["rephrase"].endswith("?")
        assert record["answers"] == [record["pred"]]
        assert record["alt"] != record["pred"]
        assert record["cond"] == f"{record['pred']} >> {record['alt']} || {record['src']}"
        assert record["subject"] not in record["loc"]
        assert record["loc_ans"]
    ported = [record["portability"] for record in records if "portability" in record]
    assert ported
    assert all(set(probe) == {"New Question", "New Answer"} for probe in ported)


def test_counterfact(world: World) -> None:
    for number, record in enumerate(made("counterfact")):
        assert record["case_id"] == number
        rewrite = record["requested_rewrite"]
        assert rewrite["prompt"].count("{}") == 1
        relation = RELATIONS[int(rewrite["relation_id"].removeprefix("FP")) - 1]
        subject, true = rewrite["subject"], rewrite["target_true"]["str"]
        assert world.answer(subject, relation.name) == true
        assert rewrite["target_new"]["id"] != rewrite["target_true"]["id"]
        assert len(record["paraphrase_prompts"]) == 2
        assert 0 < len(record["neighborhood_prompts"]) <= 10
        assert len(record["generation_prompts"]) == 10
        assert all(subject not in prompt for prompt in record["neighborhood_prompts"])
        sharing = [fact.subject for fact in world.of(relation.name) if fact.object == true]
        for prompt in record["neighborhood_prompts"]:
            assert any(name in prompt for name in sharing)


def test_mquake(world: World) -> None:
    truth: dict[tuple[str, str], str] = {}
    for record in made("mquake"):
        assert len(record["questions"]) == 3
        assert 1 <= len(record["requested_rewrite"]) <= 2
        for rewrite in record["requested_rewrite"]:
            assert rewrite["target_new"] != rewrite["target_true"]
        for hops in (record["single_hops"], record["new_single_hops"]):
            assert [set(hop) for hop in hops] == [
                {"question", "cloze", "answer", "answer_alias"}
            ] * 2
        assert record["single_hops"][1]["answer"] == record["answer"]
        assert record["new_single_hops"][1]["answer"] == record["new_answer"]
        orig = record["orig"]
        for old, relation, object_ in orig["triples_labeled"]:
            assert world.answer(old, relation.replace(" ", "_")) == object_
        assert len(orig["edit_triples"]) == len(record["requested_rewrite"])
        # All cases hold in one edited world.
        for subject, relation, object_ in orig["new_triples_labeled"]:
            name = relation.replace(" ", "_")
            assert name in BY_NAME
            assert truth.setdefault((subject, name), object_) == object_


def test_command_prints_the_requests(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["world", "--schema", "zsre", "--n", "3", "--seed", "5"]) == 0
    assert json.loads(capsys.readouterr().out) == factworld.requests("zsre", 3, 5)


def test_the_command_reports_too_few_edits(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["world", "--n", "100000"]) == 2
    assert "ask for fewer" in capsys.readouterr().err
