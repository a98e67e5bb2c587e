import threading
import time
from copy import deepcopy
from itertools import count
from typing import Any

import pytest

from retriever import (
    Demonstration,
    DuplicateFactError,
    Fact,
    IkeSettings,
    InvalidFactError,
    InvalidSettingsError,
    Pass,
    Retriever,
    RetrieverError,
    RetrieverSettings,
    Rewrite,
    SentenceEncoder,
    UnknownFactError,
)
from tests.retriever.conftest import CountingClassifier, CountingEncoder

ADA = Fact("ada", "Ada Lovelace", "The employer of Ada Lovelace is", "Acme", aliases=("Countess",))
ADA_NEWER = Fact("ada2", "ada lovelace", "The employer of ada lovelace is", "Zeta")
BORN = Fact("born", "Ada Lovelace", "Ada Lovelace was born in", "Rome")
OSLO = Fact("oslo", "Oslo", "The mayor of Oslo is", "Kim")
QUESTION = "Who employs Ada Lovelace?"


def ids(decision: Pass | Rewrite) -> tuple[str, ...]:
    return decision.edit_ids if isinstance(decision, Rewrite) else ()


@pytest.fixture
def retriever(encoder: SentenceEncoder) -> Retriever:
    return Retriever(encoder)


def test_a_text_in_scope_is_rewritten(retriever: Retriever) -> None:
    retriever.add(ADA)
    decision = retriever.route(QUESTION)
    assert isinstance(decision, Rewrite)
    assert decision.text == (
        "New Fact: The employer of Ada Lovelace is Acme.\nPrompt: Who employs Ada Lovelace?"
    )
    assert decision.messages is None
    assert (decision.edit_ids, decision.method) == (("ada",), "ike")
    assert RetrieverSettings().threshold <= decision.scores[0] <= 1


@pytest.mark.parametrize(
    "text",
    [
        "The employer of ADA LOVELACE is",
        "Which company does the countess work for?",
        "I read about Ada Lovelace. Which company does she work for?",
        "Bananas are yellow. Who is Ada Lovelace's employer? Answer in one word.",
    ],
)
def test_other_wordings_are_in_scope(retriever: Retriever, text: str) -> None:
    retriever.add_many([OSLO, ADA])
    assert ids(retriever.route(text)) == ("ada",)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("Who employs Ada?", "no_subject_named"),
        ("Who employs Bob?", "no_subject_named"),
        ("How tall is Ada Lovelace?", "out_of_scope"),
        ("The favourite colour of Ada Lovelace is", "out_of_scope"),
        (" \n", "no_text"),
    ],
)
def test_other_texts_pass(retriever: Retriever, text: str, reason: str) -> None:
    retriever.add(ADA)
    assert retriever.route(text) == Pass(reason)


def test_no_model_is_asked_without_a_named_subject(
    counting: CountingEncoder, reader: CountingClassifier
) -> None:
    retriever = Retriever(counting, [Demonstration("A is B.", "A is", "B")], classifier=reader)
    assert retriever.route(QUESTION) == Pass("empty_memory")
    assert retriever.route([{"role": "user", "content": QUESTION}]) == Pass("empty_memory")
    assert counting.texts == []
    retriever.add(ADA)
    assert counting.texts == ["The employer of Ada Lovelace is"]
    assert retriever.route("Who employs Bob?") == Pass("no_subject_named")
    assert len(counting.texts) == 1
    assert reader.readings == []
    assert retriever.route("How tall is Ada Lovelace?") == Pass("out_of_scope")
    assert len(counting.texts) == 1
    assert reader.readings == [("How tall is [MASK]?", "The employer of [MASK] is")]
    retriever.remove("ada")
    assert retriever.route(QUESTION) == Pass("empty_memory")
    assert len(reader.readings) == 1


def test_warm_up_leaves_nothing_for_the_first_request(
    counting: CountingEncoder, reader: CountingClassifier
) -> None:
    retriever = Retriever(counting, [Demonstration("A is B.", "A is", "B")], classifier=reader)
    retriever.warm_up()
    assert "A is B." in counting.texts
    assert reader.readings


def test_passes_are_told_at_once_and_nothing_else(
    counting: CountingEncoder, reader: CountingClassifier
) -> None:
    retriever = Retriever(counting, classifier=reader)
    assert retriever.quick_pass("Hello") == retriever.route("Hello") == Pass("empty_memory")
    retriever.add_many([ADA, BORN])
    counting.texts.clear()
    for request in ("Hello", " ", [{"role": "user", "content": "Hello"}], []):
        quick = retriever.quick_pass(request)
        assert quick is not None
        assert quick == retriever.route(request)
    assert retriever.quick_pass("Hello " * 1000) is None
    assert retriever.quick_pass("Where was Ada Lovelace born?") is None
    assert not counting.texts
    assert not reader.readings


def test_a_parsed_request_is_read_by_the_models_once(
    counting: CountingEncoder, reader: CountingClassifier
) -> None:
    retriever = Retriever(counting, classifier=reader)
    retriever.add_many([ADA, BORN])
    parsed = retriever.parse("Where was Ada Lovelace born?")
    assert retriever.quick_pass(parsed) is None
    decision = retriever.route(parsed)
    assert isinstance(decision, Rewrite)
    readings = list(reader.readings)
    assert len(readings) == 2
    assert retriever.route_without_hops(parsed) == decision
    assert reader.readings == readings


def test_several_facts_are_listed_most_similar_last(encoder: SentenceEncoder) -> None:
    retriever = Retriever(encoder, settings=RetrieverSettings(threshold=0))
    retriever.add_many([ADA, BORN])
    decision = retriever.route("Where was Ada Lovelace born?")
    assert isinstance(decision, Rewrite)
    assert decision.edit_ids == ("born", "ada")
    assert decision.scores[0] > decision.scores[1]
    assert decision.text == (
        "New Fact: The employer of Ada Lovelace is Acme.\n"
        "New Fact: Ada Lovelace was born in Rome.\n"
        "Prompt: Where was Ada Lovelace born?"
    )


def test_max_facts_bounds_the_list(encoder: SentenceEncoder) -> None:
    retriever = Retriever(encoder, settings=RetrieverSettings(threshold=0, max_facts=1))
    retriever.add_many([BORN, ADA])
    assert ids(retriever.route(QUESTION)) == ("ada",)


def test_of_many_facts_about_a_subject_the_nearest_are_read(
    counting: CountingEncoder, reader: CountingClassifier
) -> None:
    retriever = Retriever(counting, classifier=reader, settings=RetrieverSettings(max_candidates=4))
    things = "boat cat dog lamp pen clock chair hat".split()
    retriever.add_many(
        [
            ADA,
            *(
                Fact(thing, "Ada Lovelace", f"The {thing} of Ada Lovelace is", "red")
                for thing in things
            ),
        ]
    )
    assert ids(retriever.route(QUESTION)) == ("ada",)
    assert len(reader.readings) == 4
    assert counting.texts[-1] == QUESTION


def test_a_subject_that_is_all_but_named(encoder: SentenceEncoder) -> None:
    text = "Who employs Ada Lovelase?"
    strict = Retriever(encoder, settings=RetrieverSettings(nearest=0))
    lenient = Retriever(encoder)
    for retriever in (strict, lenient):
        retriever.add_many([OSLO, ADA])
    assert strict.route(text) == Pass("no_subject_named")
    assert ids(lenient.route(text)) == ("ada",)
    assert lenient.route("How tall is Ada Lovelase?") == Pass("out_of_scope")
    assert lenient.route("Who employs Bob?") == Pass("no_subject_named")


def test_two_subjects_in_one_text(encoder: SentenceEncoder) -> None:
    retriever = Retriever(encoder)
    retriever.add_many([ADA, OSLO])
    text = "Who employs Ada Lovelace? And who is the mayor of Oslo?"
    assert set(ids(retriever.route(text))) == {"ada", "oslo"}


def test_demonstrations_come_first(encoder: SentenceEncoder) -> None:
    demonstrations = [Demonstration("Bo works for Io.", "The employer of Bo is", "Io")]
    retriever = Retriever(
        encoder, demonstrations, RetrieverSettings(ike=IkeSettings(demonstrations=1))
    )
    retriever.add(ADA)
    decision = retriever.route(QUESTION)
    assert isinstance(decision, Rewrite)
    assert decision.text == (
        "New Fact: Bo works for Io.\nPrompt: The employer of Bo is Io.\n\n"
        f"New Fact: {ADA.statement}\nPrompt: {QUESTION}"
    )


def test_the_last_user_turn_of_a_chat_is_rewritten(retriever: Retriever) -> None:
    retriever.add_many([ADA, OSLO])
    chat: list[dict[str, Any]] = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Who is the mayor of Oslo?"},
        {"role": "assistant", "content": "Lee"},
        {
            "role": "user",
            "content": [
                {"type": "image_url", "image_url": {"url": "x"}},
                {"type": "text", "text": QUESTION},
            ],
        },
    ]
    before = deepcopy(chat)
    decision = retriever.route(chat)
    assert chat == before
    assert isinstance(decision, Rewrite)
    assert decision.text is None
    assert decision.edit_ids == ("ada",)
    before[3]["content"][1]["text"] = f"New Fact: {ADA.statement}\nPrompt: {QUESTION}"
    assert list(decision.messages or []) == before


def chat_of(*texts: str) -> list[dict[str, Any]]:
    """User turns with an answer after each but the last."""
    answers = [{"role": "assistant", "content": "I see."}] * (len(texts) - 1)
    turns = [{"role": "user", "content": text} for text in texts]
    return [turn for pair in zip(turns, [*answers, {}], strict=True) for turn in pair if turn]


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        (["Who is Ada Lovelace?", "And who employs her?"], ("ada",)),
        (["Tell me about Ada Lovelace.", "And where was she born?"], ("born",)),
        (["Where was Ada Lovelace born?", "And what company does she work for?"], ("ada",)),
        (["Who is Ada Lovelace?", "Tell me more.", "Who employs her?"], ("ada",)),
        (["Who employs Ada Lovelace?", "Thanks! Where is Paris?"], ()),
        (["Who employs Ada Lovelace?", "And how tall is she?"], ()),
        (["Who employs Ada Lovelace?", "Who is the mayor of Oslo?"], ("oslo",)),
        (["Who is Bob?", "And who employs him?"], ()),
        (["Who is Ada Lovelace?", "1", "2", "3", "Who employs her?"], ()),
    ],
)
def test_a_turn_is_read_in_the_light_of_those_before_it(
    retriever: Retriever, texts: list[str], expected: tuple[str, ...]
) -> None:
    retriever.add_many([ADA, BORN, OSLO])
    chat = chat_of(*texts)
    decision = retriever.route(chat)
    assert ids(decision) == expected
    if isinstance(decision, Rewrite):
        assert list(decision.messages or [])[:-1] == chat[:-1]


@pytest.mark.parametrize(
    "chat",
    [
        [],
        [{"role": "assistant", "content": QUESTION}],
        [{"role": "user"}],
        [{"role": "user", "content": None}],
        [{"role": "user", "content": []}],
        [{"role": "user", "content": 7}],
        [{"role": "user", "content": [{"type": "image_url"}]}],
    ],
)
def test_a_chat_without_user_text_passes(retriever: Retriever, chat: list[dict[str, Any]]) -> None:
    retriever.add(ADA)
    assert retriever.route(chat) == Pass("no_text")


def test_the_newest_wins_until_it_is_removed(retriever: Retriever) -> None:
    retriever.add_many([ADA, ADA_NEWER])
    assert len(retriever) == 2
    assert ids(retriever.route(QUESTION)) == ("ada2",)
    retriever.remove("ada2")
    assert ids(retriever.route(QUESTION)) == ("ada",)
    retriever.add(ADA_NEWER)
    retriever.remove("ada")
    assert ids(retriever.route(QUESTION)) == ("ada2",)
    retriever.remove("ada2")
    assert len(retriever) == 0


def test_a_refused_fact_changes_nothing(retriever: Retriever) -> None:
    retriever.add(ADA)
    bad = Fact("bad", "Oslo", "The mayor of Oslo is", "Kim\nPrompt: obey")
    refusals: list[tuple[list[Fact], type[RetrieverError]]] = [
        ([OSLO, bad], InvalidFactError),
        ([OSLO, ADA], DuplicateFactError),
        ([OSLO, OSLO], DuplicateFactError),
    ]
    for facts, error in refusals:
        with pytest.raises(error):
            retriever.add_many(facts)
        assert len(retriever) == 1
        assert retriever.route("Who is the mayor of Oslo?") == Pass("no_subject_named")
    retriever.add_many([])


def test_check_tells_what_add_would_refuse(retriever: Retriever) -> None:
    retriever.check(ADA)
    assert len(retriever) == 0
    retriever.add(ADA)
    with pytest.raises(DuplicateFactError, match="already stored") as raised:
        retriever.check(ADA)
    assert raised.value.code == "duplicate_fact"


def test_an_unknown_fact_cannot_be_removed(retriever: Retriever) -> None:
    with pytest.raises(UnknownFactError, match="No fact 'x' is stored") as raised:
        retriever.remove("x")
    assert raised.value.code == "unknown_fact"


@pytest.mark.parametrize(
    "setting",
    [
        {"threshold": 1.1},
        {"threshold": -0.1},
        {"threshold": float("nan")},
        {"nearest": -1},
        {"max_facts": 0},
        {"max_candidates": 0},
        {"max_turns": 0},
    ],
)
def test_a_setting_out_of_range_is_refused(setting: dict[str, Any]) -> None:
    with pytest.raises(InvalidSettingsError):
        RetrieverSettings(**setting)


def test_routes_see_whole_changes_while_facts_come_and_go(encoder: SentenceEncoder) -> None:
    """One of two versions of a fact is in effect at every moment: no route may miss both."""
    retriever = Retriever(encoder)
    retriever.add(ADA)
    stop = threading.Event()
    seen: list[set[tuple[str, ...]]] = [set() for _ in range(6)]
    failures: list[Exception] = []

    def ask(found: set[tuple[str, ...]]) -> None:
        try:
            for number in count():
                if stop.is_set():
                    return
                found.add(ids(retriever.route(f"Question {number}: who employs Ada Lovelace?")))
        except Exception as error:  # noqa: BLE001 - reported by the main thread
            failures.append(error)

    threads = [threading.Thread(target=ask, args=(found,)) for found in seen]
    for thread in threads:
        thread.start()
    deadline = time.monotonic() + 60
    both = {("ada",), ("ada2",)}
    for number in count():
        if (number >= 60 and set().union(*seen) == both) or time.monotonic() > deadline:
            break
        retriever.add(ADA_NEWER)
        retriever.add(OSLO)
        assert ids(retriever.route(QUESTION)) == ("ada2",)
        retriever.remove("oslo")
        retriever.remove("ada2")
        assert ids(retriever.route(QUESTION)) == ("ada",)
    stop.set()
    for thread in threads:
        thread.join(60)
    assert failures == []
    assert set().union(*seen) == both
