"""All schemas are read as records; errors in files name the file, the record and the field."""

import json
from pathlib import Path
from typing import Any

import pytest

from vllm_edit.domain.errors import InvalidData
from vllm_edit.evaluation.data.source import load, parse
from vllm_edit.evaluation.record import Probe, RequestedRewrite

SAMPLES = Path(__file__).parents[3] / "shared" / "data"

REWRITE = {
    "prompt": "The mother tongue of {} is",
    "relation_id": "P103",
    "target_new": {"str": "English", "id": "Q1860"},
    "target_true": {"str": "French", "id": "Q150"},
    "subject": "Danielle Darrieux",
    "question": "What is the mother tongue of Danielle Darrieux?",
}
COUNTERFACT = {
    "case_id": 7,
    "requested_rewrite": REWRITE,
    "paraphrase_prompts": ["Danielle Darrieux, a native"],
    "neighborhood_prompts": ["The native language of Montesquieu is"],
    "generation_prompts": ["Danielle Darrieux's mother tongue is"],
}
EASYEDIT = {
    "prompt": "The capital of France is",
    "target_new": "Lyon",
    "subject": "France",
    "ground_truth": "Paris",
    "rephrase_prompt": "France's capital:",
    "locality_prompt": "The seat of the Louvre is",
    "locality_ground_truth": "Paris",
}
ZSRE = {
    "subject": "UniFirst",
    "src": "What does UniFirst make?",
    "rephrase": "What is UniFirst's product?",
    "alt": "aircraft",
    "answers": ["uniform", "uniforms"],
    "loc": "nq question: who was walter",
    "loc_ans": "Walter Sobchak",
}
KNOWEDIT = {
    "subject": "Leo",
    "prompt": "The sport of Leo is",
    "target_new": "golf",
    "ground_truth": [["polo"], ["horse polo"]],
    "portability": {
        "Reasoning": [{"prompt": "Leo needs a", "ground_truth": ["club", ["golf club"]]}],
        "Subject_Aliasing": [{"prompt": "The sport of Leo II is", "ground_truth": "golf"}],
        "Logical_Generalization": [{"prompt": "A golfer is", "ground_truth": ""}],
    },
    "locality": {"Relation_Specificity": [{"prompt": "Leo lives in", "ground_truth": "Rome"}]},
}
MQUAKE = {
    "case_id": 3,
    "requested_rewrite": [REWRITE, {**REWRITE, "subject": "England", "prompt": "{} is in"}],
    "questions": ["Where?", "In what place?", "Whereabouts?"],
    "new_answer": "Asia",
    "new_answer_alias": ["the Orient"],
    "new_single_hops": [{"question": "Where is England?", "answer": "English"}],
}
CONFLICT = {
    "type": "reverse",
    "edits": [
        {
            "relation": {"prompt": "The notable work of {} is", "query": "Which is {}'s work?"},
            "subject": {"label": "Goya"},
            "object": {"label": "May"},
            "new_object": {"label": "June"},
        },
        {
            "relation": {"prompt": "The creator of {} is", "query": "Who made {}?"},
            "subject": {"label": "June"},
            "object": {"label": "Goya"},
            "new_object": {"label": "Strauss"},
        },
    ],
}
QAEDIT = {
    "id": 41,
    "source": "NQ",
    "prompt": "who painted the night watch",
    "target": "Rembrandt",
    "subject": "the night watch",
    "rephrase": "Which painter made the night watch?",
    "locality": [
        {"loc": "where is lake geneva", "loc_ans": "Switzerland"},
        {"loc": "who wrote emma", "loc_ans": "Jane Austen"},
    ],
}
WIKIBIGEDIT = {
    "tag": "update",
    "subject": "Ann Poe",
    "src": "Which club does Ann Poe play for?",
    "rephrase": "What is the club of Ann Poe?",
    "alt": "Ajax",
    "loc": "Which club does Bob Roe play for?",
    "loc_ans": "Porto",
    "mhop": None,
    "mhop_ans": None,
    "genv2_mixed": "Ahoy, what club be Ann Poe in?",
}
UNKE = {
    "id": 5,
    "question": "What is Ann Poe's occupation in Oslo?",
    "para_question": "What does Ann Poe do?",
    "answer": "Ann Poe has been a baker for ten years. She bakes rye bread.",
    "sub_question": ["How long has Ann Poe baked?", "What does Ann Poe bake?"],
    "sub_answer": ["Ten years.", "Rye bread."],
}
AKEW_REWRITE = {
    "prompt": "{} lives in",
    "prompt_full": "Ann Poe lives in",
    "question": "Where does Ann Poe live?",
    "subject": "Ann Poe",
    "target_new": {"str": "Oslo"},
    "target_true": {"str": "Rome"},
    "fact_new_uns": "Ann Poe has lived in Oslo since May.",
    "unsfact_triplets_GPT": [{"prompt": "{} moved in", "subject": "Ann Poe", "target": "May"}],
}
AKEW = {
    "requested_rewrite": AKEW_REWRITE,
    "paraphrase_prompts": ["Ann Poe's home is in"],
    "neighborhood_prompts": ["Bob Roe lives in"],
}
GOOD = {
    "qaedit": QAEDIT,
    "wikibigedit": WIKIBIGEDIT,
    "locft": WIKIBIGEDIT,
    "unke": UNKE,
    "akew": AKEW,
    "akew-triples": AKEW,
    "counterfact": COUNTERFACT,
    "easyedit": EASYEDIT,
    "zsre-alternative": ZSRE,
    "zsre-true": ZSRE,
    "knowedit": KNOWEDIT,
    "mquake": MQUAKE,
    "conflictedit": CONFLICT,
}
WORLD_SCHEMAS = [
    "counterfact", "easyedit", "zsre-alternative", "zsre-true", "knowedit", "mquake",
]  # fmt: skip


def read(schema: str, item: Any) -> Any:
    (record,) = parse(schema, [item], "file.json")
    return record


def test_counterfact() -> None:
    record = read("counterfact", COUNTERFACT)
    assert record.case == "7"
    assert record.prompt == "The mother tongue of Danielle Darrieux is"
    assert (record.target_new, record.ground_truth) == ("English", "French")
    assert record.rephrasings == ("Danielle Darrieux, a native",)
    assert record.neighbourhood == ("The native language of Montesquieu is",)
    assert record.locality["other_subjects"] == (Probe(record.neighbourhood, ("French",)),)
    assert record.generation == ("Danielle Darrieux's mother tongue is",)


def test_easyedit_has_a_neighbourhood_where_the_neighbour_has_the_same_object() -> None:
    assert read("easyedit", EASYEDIT).neighbourhood == ("The seat of the Louvre is",)
    other = read("easyedit", {**EASYEDIT, "locality_ground_truth": "Rome"})
    assert other.neighbourhood == ()
    assert other.locality["other_subjects"][0].answers == ("Rome",)


def test_the_schema_name_selects_the_answer_of_zsre() -> None:
    alternative, true = read("zsre-alternative", ZSRE), read("zsre-true", ZSRE)
    assert (alternative.target_new, alternative.ground_truth) == ("aircraft", "uniform")
    assert (true.target_new, true.ground_truth) == ("uniform", None)
    probe = Probe(("nq question: who was walter?",), ("Walter Sobchak",))
    assert true.locality == {"unrelated": (probe,)}
    assert parse("zsre-alternative", [{**ZSRE, "alt": ""}], "file.json") == []


def test_knowedit_flattens_aliases_and_leaves_out_probes_without_an_answer() -> None:
    record = read("knowedit", KNOWEDIT)
    assert record.ground_truth == "polo"
    assert set(record.portability) == {"one_hop", "alias"}
    assert record.portability["one_hop"][0].answers == ("club", "golf club")
    assert set(record.locality) == {"other_relations"}
    bare = {k: v for k, v in KNOWEDIT.items() if k not in ("portability", "locality")}
    assert read("knowedit", bare).portability == {}


def test_mquake_keeps_all_edits_of_a_case_and_any_wording_of_its_question() -> None:
    record = read("mquake", MQUAKE)
    assert record.prompt == "England is in"
    assert [rewrite.subject for rewrite in record.rewrites] == ["Danielle Darrieux", "England"]
    assert record.rephrasings == ("Where is England?",)
    probe = Probe(("Where?", "In what place?", "Whereabouts?"), ("Asia", "the Orient"), hops=True)
    assert record.portability == {"multi_hop": (probe,)}


def test_conflictedit_judges_the_second_of_a_pair() -> None:
    record = read("conflictedit", CONFLICT)
    first = RequestedRewrite("The notable work of Goya is", "Goya", "June", "May", judged=False)
    assert record.before == (first,)
    assert (record.prompt, record.target_new) == ("The creator of June is", "Strauss")
    assert record.portability["reversed_relation"] == (
        Probe(("The notable work of Strauss is",), ("June",)),
    )


def test_qaedit_injects_the_right_answer_and_keeps_five_unrelated_questions() -> None:
    record = read("qaedit", QAEDIT)
    assert (record.case, record.target_new, record.ground_truth) == ("41", "Rembrandt", None)
    assert [probe.answers for probe in record.locality["unrelated"]] == [
        ("Switzerland",), ("Jane Austen",),
    ]  # fmt: skip


def test_wikibigedit_asks_characters_and_hops_where_there_are_any() -> None:
    record = read("wikibigedit", WIKIBIGEDIT)
    assert record.portability == {
        "persona": (Probe(("Ahoy, what club be Ann Poe in?",), ("Ajax",)),)
    }
    hop = {**WIKIBIGEDIT, "mhop": "Where is Ann Poe's club?", "mhop_ans": "Amsterdam"}
    (probe,) = read("wikibigedit", hop).portability["multi_hop"]
    assert (probe.answers, probe.hops) == (("Amsterdam",), True)


def test_locft_reads_each_of_its_three_sets() -> None:
    assert read("locft", EASYEDIT) == read("easyedit", EASYEDIT)
    assert read("locft", ZSRE) == read("zsre-alternative", ZSRE)
    assert read("locft", WIKIBIGEDIT) == read("wikibigedit", WIKIBIGEDIT)


def test_unke_finds_the_name_in_question_and_answer() -> None:
    record = read("unke", UNKE)
    assert record.subject == "Ann Poe"
    assert record.target_new == UNKE["answer"]
    assert record.portability["parts"][1] == Probe(("What does Ann Poe bake?",), ("Rye bread",))
    assert parse("unke", [{**UNKE, "question": "What is it?"}], "file.json") == []


def test_akew_is_read_as_paragraphs_or_as_triples() -> None:
    paragraph, triple = read("akew", AKEW), read("akew-triples", AKEW)
    assert paragraph.target_new == "Ann Poe has lived in Oslo since May."
    assert paragraph.portability["parts"] == (Probe(("Ann Poe moved in",), ("May",)),)
    assert (triple.target_new, triple.ground_truth) == ("Oslo", "Rome")
    assert triple.rephrasings == ("Ann Poe's home is in",)
    assert triple.locality["other_subjects"] == (Probe(("Bob Roe lives in",), ("Rome",)),)


def test_akew_takes_the_forms_of_its_other_sets() -> None:
    update = {k: v for k, v in AKEW_REWRITE.items() if k not in ("prompt_full", "target_new")}
    update |= {"answer_new": "Oslo", "answer_true": "Rome"}
    del update["target_true"]
    item = {"requested_rewrite": [update], "loc": "Where is Rome?", "loc_ans": "Italy"}
    record = read("akew-triples", item)
    assert (record.prompt, record.target_new) == ("Ann Poe lives in?", "Oslo")
    assert record.ground_truth == "Rome"
    assert record.rephrasings == ("Where does Ann Poe live?",)
    assert record.locality["unrelated"] == (Probe(("Where is Rome?",), ("Italy",)),)


@pytest.mark.parametrize(
    ("schema", "change", "field"),
    [
        ("counterfact", {"requested_rewrite": None}, "requested_rewrite"),
        (
            "counterfact",
            {"requested_rewrite": {**REWRITE, "target_new": {"id": "Q1"}}},
            "requested_rewrite.target_new.str",
        ),
        (
            "counterfact",
            {"requested_rewrite": {**REWRITE, "prompt": "no place"}},
            "requested_rewrite.prompt",
        ),
        ("counterfact", {"paraphrase_prompts": []}, "paraphrase_prompts"),
        ("easyedit", {"prompt": 3}, "prompt"),
        ("easyedit", {"target_new": None}, "target_new"),
        ("zsre-true", {"answers": [""]}, "answers"),
        ("knowedit", {"locality": {"Odd": []}}, "locality.Odd"),
        ("knowedit", {"portability": {"Reasoning": ["x"]}}, "portability.Reasoning[0]."),
        ("knowedit", {"target_new": None, "labels": "a text"}, "labels"),
        ("mquake", {"new_answer": " "}, "new_answer"),
        ("conflictedit", {"type": "composite"}, "type"),
        ("qaedit", {"target": None}, "target"),
        ("qaedit", {"locality": [{"loc": "who"}]}, "locality[0].loc_ans"),
        ("wikibigedit", {"alt": ""}, "alt"),
        ("unke", {"sub_answer": []}, "sub_answer"),
        (
            "akew",
            {"requested_rewrite": {**AKEW_REWRITE, "fact_new_uns": None}},
            "requested_rewrite[0].fact_new_uns",
        ),
        ("conflictedit", {"edits": CONFLICT["edits"][:1]}, "edits"),
    ],
)
def test_a_bad_record_is_refused_with_file_record_and_field(
    tmp_path: Path, schema: str, change: dict[str, Any], field: str
) -> None:
    good = GOOD[schema]
    path = tmp_path / "data.json"
    path.write_text(json.dumps([good, {**good, **change}]))
    with pytest.raises(InvalidData) as raised:
        load(f"{schema}:{path}", 2, 0)
    assert f"{path}, record 1" in raised.value.message
    assert raised.value.field == field


def test_json_lines_are_read(tmp_path: Path) -> None:
    path = tmp_path / "data.jsonl"
    path.write_text("".join(f"{json.dumps(EASYEDIT)}\n\n" for _ in range(3)))
    assert len(load(f"easyedit:{path}", 3, 0)) == 3


@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_a_line_ends_at_a_line_feed_alone(tmp_path: Path, mark: str) -> None:
    path = tmp_path / "data.jsonl"
    odd = {**EASYEDIT, "target_new": "Rome\u2028the\u2029city\u0085here"}
    path.write_text(mark + f"{json.dumps(odd, ensure_ascii=False)}\n" * 2, encoding="utf-8")
    records = load(f"easyedit:{path}", 2, 0)
    assert [record.target_new for record in records] == [odd["target_new"]] * 2


def test_easyedit_s_other_names_of_probes_are_read(tmp_path: Path) -> None:
    path = tmp_path / "data.json"
    probe = [{"prompt": "Of this:", "ground_truth": "that"}]
    item = {
        **GOOD["knowedit"],
        "locality": {"distracting": probe},
        "portability": {"one_hop": probe},
    }
    path.write_text(json.dumps([item]))
    (record,) = load(f"knowedit:{path}", 1, 0)
    assert set(record.locality) == {"distracting_neighbour"}
    assert set(record.portability) == {"one_hop"}


@pytest.mark.parametrize("content", [b"{", b"{}", b"\xff"])
def test_a_file_without_a_list_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "data.json"
    path.write_bytes(content)
    with pytest.raises(InvalidData, match=r"data\.json"):
        load(f"easyedit:{path}", 1, 0)


@pytest.mark.parametrize(
    "source", ["nosuch:file", "zsre", "easyedit:/no/such", "factworld:nosuch", "zsre:file"]
)
def test_an_unknown_source_is_refused(source: str) -> None:
    with pytest.raises(InvalidData):
        load(source, 1, 0)


@pytest.mark.parametrize("schema", WORLD_SCHEMAS)
def test_the_bundled_world_has_edits_in_every_schema(schema: str) -> None:
    records = load(f"factworld:{schema}", 12, 0)
    assert len(records) == 12
    assert all(record.subject in record.prompt for record in records)
    assert records == load(f"factworld:{schema}", 12, 0)


@pytest.mark.parametrize(
    ("schema", "name", "kinds"),
    [
        ("easyedit", "counterfact_edit", {"other_subjects"}),
        ("zsre-true", "zsre_mend", {"unrelated"}),
        ("zsre-alternative", "zsre_mend", {"unrelated"}),
        (
            "knowedit",
            "knowedit_zsre",
            {"other_relations", "one_hop", "alias", "reversed_relation"},
        ),
        (
            "knowedit",
            "knowedit_wiki_counterfact",
            {"other_relations", "forgetfulness", "one_hop", "alias", "reversed_relation"},
        ),
        ("mquake", "mquake_cf", {"multi_hop"}),
        ("conflictedit", "conflictedit_reverse", {"reversed_relation"}),
    ],
)
def test_published_samples_are_read_whole(schema: str, name: str, kinds: set[str]) -> None:
    path = SAMPLES / f"{name}.json"
    if not path.exists():
        pytest.skip("the samples are not on this machine")
    records = load(f"{schema}:{path}", 1, 0)
    assert len(records) >= len(json.loads(path.read_text())) - 1
    assert {kind for record in records for _, kind, _ in record.probes()} == kinds
    assert all(record.subject in record.prompt for record in records)
