import pytest

from retriever.name_index import NameIndex
from retriever.scope.classifier_input import fact_input, parse_turn, request_input
from retriever.scope.similar_names import similar_name_spans
from retriever.text import name_of


def read(subject: str, *texts: str) -> str | None:
    index = NameIndex()
    index.add(name_of(subject), 0)
    turns = [parse_turn(text) for text in texts]
    spans = [index.mentions(turn.words).get(name_of(subject), []) for turn in turns]
    return request_input(turns, spans)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Where does Ada work?", "Where does [MASK] work?"),
        ("Hello there. Where does ADA work? Be brief.", "Where does [MASK] work?"),
        ("Ada is Ada.", "[MASK] is [MASK]."),
        ("Is it Ada? Is it Ada?", "Is it [MASK]? Is it [MASK]?"),
        ("I met Ada. Where does she work?", "I met [MASK]. Where does she work?"),
        ("I met Ada.\nWhere does Bob work?", "I met [MASK]."),
        ("Ada one. Ada two. Ada three. Ada 4.", "[MASK] two. [MASK] three. [MASK] 4."),
        ("Ada", "[MASK]"),
        ("Bob", None),
    ],
)
def test_what_is_read_of_a_text(text: str, expected: str | None) -> None:
    assert read("Ada", text) == expected


def test_what_is_read_is_bounded() -> None:
    text = read("Ada", "so " * 500 + "Ada and Ada" + " so" * 500 + ". It was " + "so " * 500)
    assert text is not None
    assert text.count("[MASK]") == 2
    assert len(text) < 800


def test_a_name_across_a_seeming_sentence_end_stays_whole() -> None:
    assert read("Port. Louis", "He lived in Port. Louis street?") == "He lived in [MASK] street?"


def test_the_mark_of_a_name_ends_no_sentence() -> None:
    assert read("Yahoo!", "Hello. Yahoo! is owned by") == "[MASK] is owned by"
    assert read("Yahoo!", "I like Yahoo!\nWhat is new?") == "I like [MASK]"


@pytest.mark.parametrize(
    ("turns", "expected"),
    [
        (
            ["Who is Ada?", "And where does she live?"],
            "Who is [MASK]? [SEP] And where does she live?",
        ),
        (["Who is Ada?", "Is Ada tall?"], "Is [MASK] tall?"),
        (["Is Ada old?", "Who is Ada?", "Why?"], "Who is [MASK]? [SEP] Why?"),
        (["Who is Bob?", "And where does she live?"], None),
    ],
)
def test_a_turn_without_the_name_is_read_after_one_that_has_it(
    turns: list[str], expected: str | None
) -> None:
    assert read("Ada", *turns) == expected


def test_what_is_read_of_a_fact_hides_the_subject_only() -> None:
    assert fact_input("The employer of Ada is", "Ada") == "The employer of [MASK] is"


@pytest.mark.parametrize(
    ("text", "name", "expected"),
    [
        ("Who trained Seabiscusuit?", "Seabiscuit", "Seabiscusuit"),
        (
            "the father of Joanna Sophia from Bavaria",
            "Joanna Sophia of Bavaria",
            "Joanna Sophia from Bavaria",
        ),
        ("Who is the father of Raja Zarith Sofia?", "Raja Zarith Sofiah", "Raja Zarith Sofia"),
        ("Where is Line 4?", "Line 5", None),
        ("Who was Pope Boniface II?", "Boniface III", None),
        ("Who employs Bob?", "Ada Lovelace", None),
        ("", "Ada", None),
    ],
)
def test_nearly_the_right_name(text: str, name: str, expected: str | None) -> None:
    turn = parse_turn(text)
    found = [turn.text[a:b] for a, b in similar_name_spans(turn.words, name_of(name))]
    assert found == ([expected] if expected else [])
