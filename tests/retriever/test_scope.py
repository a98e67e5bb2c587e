import pytest

from retriever import Fact
from retriever.names import NameIndex
from retriever.scope import fact_text, windows
from retriever.text import name_of, normalise, sentence_bounds, words


def pieces(text: str, subject: str, limit: int = 4) -> list[str]:
    index = NameIndex()
    index.add(name_of(subject), 0)
    plain = normalise(text)
    spans = index.mentions(words(plain))[name_of(subject)]
    return windows(plain, sentence_bounds(plain), spans, limit)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Where does Ada work?", ["Where does someone work?"]),
        ("Hello there. Where does ADA work? Be brief.", ["Where does someone work?"]),
        ("Ada is Ada.", ["someone is someone."]),
        ("Is it Ada? Is it Ada?", ["Is it someone?"]),
        ("I met Ada. Where does she work?", ["I met someone.", "Where does someone work?"]),
        ("I met Ada.\nWhere does Bob work?", ["I met someone."]),
        ("Ada", ["someone"]),
    ],
)
def test_pieces_of_a_text(text: str, expected: list[str]) -> None:
    assert pieces(text, "Ada") == expected


def test_the_last_sentences_count() -> None:
    text = "Ada one. Ada two. Ada three."
    assert pieces(text, "Ada", limit=2) == ["someone two.", "someone three."]


def test_a_name_across_a_seeming_sentence_end_stays_whole() -> None:
    assert pieces("He lived in Port. Louis street?", "Port. Louis") == [
        "He lived in someone street?"
    ]


def test_fact_text_hides_the_subject_only() -> None:
    fact = Fact("1", "Ada", "The employer of Ada is", "Acme")
    assert fact_text(fact) == "The employer of someone is"
