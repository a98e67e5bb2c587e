"""Rules that retriever and weight_patchers share though neither imports the other."""

from pathlib import Path

import pytest

import retriever.continuation
import retriever.word_border
import weight_patchers.continuation
import weight_patchers.word_border
from retriever import Fact
from retriever.text import names
from weight_patchers import Edit
from weight_patchers.continuation import continue_with
from weight_patchers.errors import InvalidEdit
from weight_patchers.word_border import whole_places


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (retriever.continuation, weight_patchers.continuation),
        (retriever.word_border, weight_patchers.word_border),
    ],
    ids=["continuation", "word_border"],
)
def test_both_packages_hold_the_same_code(ours: object, theirs: object) -> None:
    first, second = (_code(module) for module in (ours, theirs))
    assert first == second


def _code(module: object) -> str:
    source = Path(str(getattr(module, "__file__", ""))).read_text(encoding="utf-8")
    return source.replace("weight_patchers.", "retriever.")


@pytest.mark.parametrize(
    ("prompt", "target", "text"),
    [
        ("Anna lives in", "Oslo", "Anna lives in Oslo"),
        ("Anna lives in ", "Oslo", "Anna lives in Oslo"),
        ("Q: Where?\n", "Oslo", "Q: Where?\nOslo"),
        ("Anna said (", "Oslo", "Anna said (Oslo"),
        ("Anna lives in Oslo", ", Norway", "Anna lives in Oslo, Norway"),
        ("日本の首都は", "東京", "日本の首都は東京"),
        ("Its framework is", ".NET", "Its framework is .NET"),
        ("It was born in", "'s-Hertogenbosch", "It was born in 's-Hertogenbosch"),
        ("The dog is", "'s", "The dog is's"),
        ("This is Ada", "'s dog", "This is Ada's dog"),
        ("It costs $", "5", "It costs $5"),
        ("It costs $ ", "5", "It costs $5"),
        ("It costs US$", "5", "It costs US$5"),
        ("It costs €", ".50", "It costs €.50"),
        ("It costs 5 €", "a month", "It costs 5 € a month"),
        ("The sign of the dollar is $", "and", "The sign of the dollar is $ and"),
        ("It is number #", "1", "It is number #1"),
        ("The best is C#", "today", "The best is C# today"),
        ('The film "Jaws"', "won", 'The film "Jaws" won'),
        ('He said "', "no", 'He said "no'),
        ('The screen has 27"', "across", 'The screen has 27" across'),
        ("the Smiths'", "house", "the Smiths' house"),
        ("He said '", "no", "He said 'no"),
        ("He said “no”", "twice", "He said “no” twice"),
        ("He said “", "no", "He said “no"),
        ("Sie sagte „nein“", "zu", "Sie sagte „nein“ zu"),
        ("The answer -", "no", "The answer - no"),
        ("It is anti-", "war", "It is anti-war"),
        ("He lived 1914\u2013", "1918", "He lived 1914\u20131918"),
        ("Pi is 3", ".14", "Pi is 3.14"),
        ("A language is", "!Kung", "A language is !Kung"),
        ("She shouts no", "!", "She shouts no!"),
        ("Who is it?", "Ada", "Who is it? Ada"),
    ],
)
def test_one_space_stands_where_one_belongs(prompt: str, target: str, text: str) -> None:
    assert continue_with(prompt, target) == text
    assert Fact("1", "x", prompt, target).statement.removesuffix(".") == text


@pytest.mark.parametrize(
    ("text", "name", "whole"),
    [
        ("Jiful is known for its", "Jiful", True),
        ("Jiful's pottery is known", "Jiful", True),
        ("(Jiful) is", "Jiful", True),
        ("Jifulian pottery is known for its", "Jiful", False),
        ("NeoJiful is", "Jiful", False),
        ("Jiful2 is", "Jiful", False),
        ("Jiful_b is", "Jiful", False),
        ("Jifulian and Jiful are", "Jiful", True),
        ("रामायण किसने लिखी", "राम", False),
        ("राम कहाँ है", "राम", True),
        ("東京の人口は", "東京", True),
        ("서울의 시장은", "서울", True),
        ("서울에서는 시장이", "서울", True),
        ("서울대학교의 총장은", "서울", False),
        ("Messi는 지금", "Messi", True),
        ("عمدة القاهرة هو", "القاهرة", True),
        ("يقيم بالقاهرة", "القاهرة", True),
        ("C++ was made by", "C++", True),
    ],
)
def test_a_subject_stands_as_whole_words_for_every_method(
    text: str, name: str, whole: bool
) -> None:
    assert any(True for _ in whole_places(text, name)) == whole
    assert names(text, name) == whole
    if whole:
        assert Edit(text, name, "x").subject == name
    else:
        with pytest.raises(InvalidEdit, match="as whole words"):
            Edit(text, name, "x")
