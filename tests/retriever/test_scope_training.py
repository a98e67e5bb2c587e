"""Loaders of published data, examples, and a training from data to a classifier that routes."""

import json
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from retriever import Fact, InvalidTrainingDataError, Retriever, Rewrite, SentenceEncoder
from retriever.encoder import HUB_NAME
from retriever.scope import ScopeClassifier
from retriever.scope.files import describe
from retriever.scope_training.conversations import conversations
from retriever.scope_training.evaluation import evaluate, memory_of
from retriever.scope_training.examples import make_examples, reading_of
from retriever.scope_training.pair import Pair, TrainingEdit, on_side, side_of
from retriever.scope_training.published import load_folder
from retriever.scope_training.report import choose_threshold, report, table
from retriever.scope_training.run import Run, measure, train
from retriever.scope_training.trainer import TrainingSettings
from retriever.settings import RetrieverSettings

OSLO = TrainingEdit("The mayor of Oslo is", "Oslo", "Kim")
MQUAKE = {
    "requested_rewrite": [
        {
            "prompt": "{} is a citizen of",
            "subject": "Ada",
            "question": "Of which country is Ada a citizen?",
            "target_new": {"str": "Peru"},
        }
    ],
    "questions": ["Who leads the country of Ada?", "Who leads the country of the countess?"],
    "single_hops": [],
}
RECORDS: dict[str, tuple[dict[str, Any], list[tuple[str, str, str]]]] = {
    "own": (
        {"prompt": "The mayor of Oslo is", "subject": "Oslo", "target": "Kim"}
        | {"request": "Who leads Bergen?", "in_scope": False},
        [("Oslo", "Who leads Bergen?", "easy")],
    ),
    "own_hard": (
        {"prompt": "The mayor of Oslo is", "subject": "Oslo", "target": "Kim"}
        | {"turns": ["Where is Oslo?", "How big is it?"], "in_scope": False},
        [("Oslo", "How big is it?", "hard")],
    ),
    "zsre": (
        {"subject": "Oslo", "src": "Who leads Oslo?", "rephrase": "Who rules Oslo?", "alt": "Kim"}
        | {"answers": ["Lee"], "loc": "nq question: who sang it", "loc_ans": "Bo"},
        [("Oslo", "Who rules Oslo?", "in_scope"), ("Oslo", "who sang it?", "easy")],
    ),
    "easyedit": (
        {"prompt": "Oslo is led by", "subject": "Oslo", "target_new": "Kim"}
        | {"rephrase_prompt": "It rains. Oslo's mayor is", "locality_prompt": "Rome is led by"},
        [("Oslo", "It rains. Oslo's mayor is", "in_scope"), ("Oslo", "Rome is led by", "easy")],
    ),
    "counterfact": (
        {
            "requested_rewrite": {
                "prompt": "{} is led by",
                "subject": "Oslo",
                "target_new": {"str": "Kim"},
            },
            "paraphrase_prompts": ["Oslo's mayor is"],
            "neighborhood_prompts": ["Rome is led by"],
        },
        [("Oslo", "Oslo's mayor is", "in_scope"), ("Oslo", "Rome is led by", "easy")],
    ),
    "knowedit": (
        {
            "subject": "Oslo",
            "prompt": "Oslo is led by",
            "target_new": "Kim",
            "ground_truth": ["Lee", ["Li"]],
            "rephrase_prompt": "Who rules Oslo?",
            "portability": {"Reasoning": [{"prompt": "Who is wed to the mayor of Oslo?"}]},
            "locality": {
                "Relation_Specificity": [
                    {"prompt": "Oslo is in", "ground_truth": "Norway"},
                    {"prompt": "The mayor of Oslo is", "ground_truth": [["li"]]},
                ]
            },
        },
        [
            ("Oslo", "Who rules Oslo?", "in_scope"),
            ("Oslo", "Oslo is in", "hard"),
            ("Oslo", "Who is wed to the mayor of Oslo?", "multi_hop"),
        ],
    ),
    "mquake": (
        MQUAKE,
        [
            ("Ada", "Of which country is Ada a citizen?", "in_scope"),
            ("Ada", "Who leads the country of Ada?", "multi_hop"),
        ],
    ),
    "conflictedit": (
        {
            "rule": "P1>P2",
            "triples": [],
            "edits": [
                {
                    "relation": {"prompt": "The work of {} is", "query": "What did {} make?"},
                    "subject": {"label": "Bo"},
                    "new_object": {"label": "Hats"},
                }
            ],
        },
        [("Bo", "What did Bo make?", "in_scope")],
    ),
}


@pytest.mark.parametrize("schema", RECORDS)
def test_a_published_schema_is_recognised(tmp_path: Path, schema: str) -> None:
    record, expected = RECORDS[schema]
    (tmp_path / f"{schema}.json").write_text(json.dumps([record]))
    (tmp_path / "notes.txt").write_text("not data")
    pairs = load_folder(tmp_path)
    assert [(p.edit.subject, p.request, p.kind) for p in pairs] == expected
    assert {pair.source for pair in pairs} == {schema}


def test_statements_are_taken_apart_with_the_wordings_beside_them(tmp_path: Path) -> None:
    (tmp_path / "hops.json").write_text(json.dumps([MQUAKE]))
    statements = [
        {"edit": "Bo Li is a citizen of South Sudan", "questions": ["Where is Bo Li at home?"]},
        {"edit": "Bo Li likes tea", "questions": ["What does Bo Li like?"]},
    ]
    (tmp_path / "scope.jsonl").write_text("\n".join(map(json.dumps, statements)) + "\n\n")
    pair = Pair(
        TrainingEdit("Bo Li is a citizen of", "Bo Li", "South Sudan"),
        ("Where is Bo Li at home?",),
        "in_scope",
        "scope",
    )
    assert [p for p in load_folder(tmp_path) if p.source == "scope"] == [pair]


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("[{]", "not JSON"),
        ('[{"a": 1}]', "no file in a schema"),
        ('[{"subject": 1, "src": 1, "rephrase": 1, "alt": 1, "loc": 1}]', "not in the schema"),
    ],
)
def test_what_is_no_data_is_refused(tmp_path: Path, text: str, match: str) -> None:
    (tmp_path / "data.json").write_text(text)
    with pytest.raises(InvalidTrainingDataError, match=match):
        load_folder(tmp_path)


def test_a_subject_is_on_one_side_however_it_is_spelt() -> None:
    assert side_of("Ada Lovelace") == side_of("ada  LOVELACE")
    sides = [side_of(f"Subject {n}") for n in range(2000)]
    shares = [sides.count(side) / 2000 for side in ("train", "validation", "test")]
    assert shares == pytest.approx([0.7, 0.1, 0.2], abs=0.03)


def test_backward_questions_are_told_apart() -> None:
    def backwards(request: str) -> bool:
        return Pair(OSLO, (request,), "in_scope", "").asks_backwards

    assert backwards("Of what is Kim the mayor?")
    assert not backwards("Who is mayor of Oslo, Kim?")
    assert not backwards("Who is mayor of Oslow?")


def test_conversations_ask_with_a_pronoun() -> None:
    pairs = list(conversations([Pair(OSLO, ("Who is Oslo's mayor?",), "in_scope", "x")], seed=0))
    assert [pair.kind for pair in pairs] == ["in_scope", "hard"]
    assert "Oslo" in pairs[0].turns[0]
    assert "Oslo" not in pairs[0].request
    assert "mayor?" in pairs[0].request
    assert pairs[1].turns[0] == "Who is Oslo's mayor?"


RELATIONS = {
    "The mayor of {} is": ["Who is the mayor of {}?", "{}'s mayor is"],
    "The river of {} is": ["Which river flows through {}?", "{} lies on the river"],
    "The anthem of {} is": ["What is the anthem of {}?", "People in {} sing"],
}


def tiny_pairs(subjects: int = 40) -> list[Pair]:
    pairs = []
    for number in range(subjects):
        subject = f"Town{number}"
        for prompt, wordings in RELATIONS.items():
            edit = TrainingEdit(prompt.format(subject), subject, "x")
            others = [w for p, ws in RELATIONS.items() if p != prompt for w in ws]
            if number % 3 == list(RELATIONS).index(prompt):
                pairs += [Pair(edit, (w.format(subject),), "in_scope", "tiny") for w in wordings]
                pairs += [Pair(edit, (w.format(subject),), "hard", "tiny") for w in others]
                pairs.append(Pair(edit, (wordings[0].format("Rome"),), "easy", "tiny"))
    return pairs


def test_examples_are_of_the_subjects_given_and_have_both_labels(
    encoder: SentenceEncoder,
) -> None:
    pairs = on_side(tiny_pairs(), "train")
    examples = make_examples(pairs, encoder, seed=0)
    assert examples == make_examples(pairs, encoder, seed=0)
    assert {example.in_scope for example in examples} == {True, False}
    assert not any("Town" in example.request + example.fact for example in examples)
    by_reading = {example.reading: example.in_scope for example in examples}
    assert by_reading["The mayor of [MASK] is", "The mayor of [MASK] is"]
    assert any("[SEP]" in example.request and example.in_scope for example in examples)


def test_a_pair_that_names_nobody_has_no_reading() -> None:
    assert reading_of(Pair(OSLO, ("Who leads Rome?",), "easy", "")) is None


def test_a_memory_has_the_edits_of_its_pairs_and_is_filled_up() -> None:
    pairs = on_side(tiny_pairs(), "test")
    pair_edits = {pair.edit for pair in pairs}
    edits, kept = memory_of(pairs, [pair.edit for pair in tiny_pairs()], 30, seed=0)
    assert len(set(edits)) == 30
    assert pair_edits < set(edits)
    assert kept == pairs
    edits, kept = memory_of(pairs, [], 2, seed=0)
    assert len(edits) == 2
    assert {pair.edit for pair in kept if pair.kind != "easy"} == set(edits)
    fillers = (TrainingEdit(f"The mayor of Made-up {n} is", f"Made-up {n}", "Kim") for n in count())
    edits, kept = memory_of(pairs, [OSLO], len(pair_edits) + 5, seed=0, fillers=fillers)
    assert len(edits) == len(pair_edits) + 5
    assert kept == pairs


def test_training_gives_a_classifier_that_routes(tmp_path: Path, encoder: SentenceEncoder) -> None:
    run = Run(tiny_pairs(), encoder)
    settings = TrainingSettings(rank=4, epochs=0.06, batch_size=8, save_every=4)
    seen: list[int] = []
    training_report = train(
        run, HUB_NAME, settings, tmp_path, lambda done, _of, _loss: seen.append(done)
    )
    description = describe(tmp_path)
    assert description.base == HUB_NAME
    assert description.threshold == training_report["validation"]["threshold"]
    assert description.report["examples"] == training_report["examples"]
    classifier = ScopeClassifier(tmp_path)
    _, outcomes = measure(run, classifier, "test", 20)
    assert {outcome.pair.source for outcome in outcomes} == {"tiny", "conversations"}
    assert "20 edits" in table(report(outcomes, 0.5, 20))
    retriever = Retriever(encoder, classifier=classifier, settings=RetrieverSettings(threshold=0))
    retriever.add(Fact("oslo", "Oslo", "The mayor of Oslo is", "Kim"))
    assert isinstance(retriever.route("Who is the mayor of Oslo?"), Rewrite)
    # The same command again goes on from the state kept, of which little or nothing is left.
    assert (tmp_path / "training" / "state.safetensors").exists()
    before, again = len(seen), dict(training_report)
    again |= train(run, HUB_NAME, settings, tmp_path, lambda done, _of, _loss: seen.append(done))
    assert len(seen) - before <= before
    assert again["examples"] == training_report["examples"]


def test_training_needs_several_subjects(tmp_path: Path, encoder: SentenceEncoder) -> None:
    run = Run([Pair(OSLO, ("Who runs Oslo?",), "in_scope", "a")], encoder)
    with pytest.raises(InvalidTrainingDataError, match="some tens of subjects"):
        train(run, HUB_NAME, TrainingSettings(), tmp_path, lambda *_: None)


def test_outcomes_and_the_threshold_they_ask_for(encoder: SentenceEncoder) -> None:
    """A classifier that knows the words: right but for one request."""

    class Words:
        def scores(self, readings: Any) -> list[float]:
            return [0.9 if "mayor" in q and "mayor" in f else 0.3 for q, f in readings]

    edits = [OSLO, TrainingEdit("The river of Oslo is", "Oslo", "Aker")]
    pairs = [
        Pair(OSLO, ("Who is the mayor of Oslo?",), "in_scope", "a"),
        Pair(OSLO, ("Who runs Oslo?",), "in_scope", "a"),
        Pair(OSLO, ("Where is Oslo?",), "hard", "a"),
        Pair(OSLO, ("The river of Oslo is",), "hard", "a"),
        Pair(OSLO, ("Where is Rome?",), "easy", "a"),
    ]
    outcomes = evaluate(edits, pairs, encoder, Words(), RetrieverSettings())
    assert [outcome.right for outcome in outcomes] == [0.9, 0.3, 0.3, 0.3, 0.0]
    assert [outcome.found(0.5, 3) for outcome in outcomes[:2]] == [True, False]
    assert [outcome.disturbed(0.2) for outcome in outcomes[2:]] == [True, True, False]
    assert choose_threshold(outcomes) == 0.4
    evaluation = report(outcomes, 0.4, 2)
    assert evaluation["all"] == {"in_scope": 0.5, "hard": 0.0, "easy": 0.0}
    assert json.loads(json.dumps(evaluation)) == evaluation
