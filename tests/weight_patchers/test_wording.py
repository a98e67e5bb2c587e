"""The rules for texts, against values worked out by hand."""

import pytest

from weight_patchers.wording import (
    begins_with,
    exact_match,
    first_word,
    normalized,
    runs_on,
    says,
    unchanged,
)


def test_normalizing_drops_case_punctuation_and_articles() -> None:
    assert normalized(" The  St. Louis, USA ") == "st louis usa"


@pytest.mark.parametrize(
    ("generated", "target", "score"),
    [
        (" Paris.", "Paris", 1.0),
        ("the paris Hilton", " Paris ", 1.0),
        ("Paris.The", "Paris", 1.0),
        ("St. Louis, Missouri", "St Louis", 1.0),
        ("Washington, D.C. and more", "Washington, DC", 1.0),
        ("5 metres", "5", 1.0),
        ("New  York City", "New York", 1.0),
        ("C++ is", "C++", 1.0),
        ("東京です", "東京", 1.0),
        ("?", "?", 1.0),
        ("Parisian", "Paris", 0.0),
        ("54 metres", "5", 0.0),
        ("Par", "Paris", 0.0),
        ("in Paris", "Paris", 0.0),
        ("Lyon, not Paris", "Paris", 0.0),
        ("", "Paris", 0.0),
        ("", "?", 0.0),
    ],
)
def test_an_answer_begins_with_whole_words(generated: str, target: str, score: float) -> None:
    assert begins_with(generated, target) == score


@pytest.mark.parametrize(
    ("generated", "answers", "score"),
    [
        ("Paris.", ["Paris"], 1.0),
        ("paris, in the north of France", ["Paris"], 1.0),
        ("the Paris", ["Paris"], 1.0),
        ("St. Louis, Missouri.", ["St. Louis"], 1.0),
        ("Washington, D.C. and more", ["Washington, D.C."], 1.0),
        ("US\nQuestion: next", ["United States", "US"], 1.0),
        ("Paris Hilton.", ["Paris"], 0.0),
        ("Lyon. Paris", ["Paris"], 0.0),
        ("", ["Paris"], 0.0),
        ("Paris", ["..."], 0.0),
    ],
)
def test_exact_match_takes_the_answer_up_to_a_punctuation_mark(
    generated: str, answers: list[str], score: float
) -> None:
    assert exact_match(generated, answers) == score


def test_unchanged_compares_the_first_sentence() -> None:
    assert unchanged("Paris. And more", "paris.\nSomething else") == 1.0
    assert unchanged("Paris, France", "Paris") == 0.0


@pytest.mark.parametrize(
    ("generated", "goes_on"),
    [
        ("Paris", 0.0),
        (" the paris. It is large", 0.0),
        ("Paris\nLondon", 0.0),
        ("Paris, which is", 1.0),
        ("Paris Hilton", 1.0),
        ("Parisian", None),
        ("in Paris", None),
        ("", None),
    ],
)
def test_an_answer_with_the_target_may_run_on(generated: str, goes_on: float | None) -> None:
    assert runs_on(generated, ["Paris"]) == goes_on


def test_initials_in_a_target_end_no_sentence() -> None:
    assert runs_on("J. S. Bach. He", ["J. S. Bach"]) == 0.0
    assert runs_on("J. S. Bach, he", ["J. S. Bach"]) == 1.0


def test_a_sentence_says_its_whole_words() -> None:
    assert says("It is in Paris.", ["Paris"]) == 1.0
    assert says("It is Parisian. Paris", ["Paris"]) == 0.0
    assert says("anything", ["the"]) == 0.0
    assert says("the city of New York.", ["new york"]) == 1.0


def test_the_first_word_has_no_case() -> None:
    assert first_word("  Paris, France") == first_word("paris") == "paris"
    assert first_word(' "Paris", he') == "paris"
    assert first_word("...") == ""
