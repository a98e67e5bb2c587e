import re
import time
import tracemalloc
import unicodedata
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from retriever.scope.classifier_input import LONGEST_TURN, parse_turn
from retriever.subject_gate import SubjectGate
from retriever.text import mask, name_of, names, normalise, sentence_bounds, with_full_stop, words

ACCENTS = re.compile("[\u0300-\u036f\u200c\u200d]")

HOSTILE = {
    "one mark": ".",
    "marks and quotes": ".'",
    "ligatures": "\ufdfa",
    "accents out of order": "\u0301\u0327",
    "a letter and accents": "e\u0301\u0327\u0302",
    "one word": "x",
    "many words": "a b ",
    "no spaces": "漢",
    "lines": ".\n",
}


@pytest.mark.parametrize(
    ("text", "subject"),
    [
        ("Where does Paul Smith live?", "paul smith"),
        ("PAUL SMITH'S house", "Paul Smith"),
        ("Where was François Gonçalves born?", "Francois Goncalves"),
        ("Franc\u0327ois", "François"),
        ("\uff30aul", "Paul"),
        ("Commerson\u2019s dolphin is", "Commerson's dolphin"),
        ("Is SM U\u201194 a submarine?", "SM U-94"),
        ("C++ was made by", "C++"),
        ("東京の人口は", "東京"),
        ("राम कहाँ है", "राम"),
        ("Who ran St. Louis?", "St. Louis"),
        ("two\n  lines", "two lines"),
    ],
)
def test_names_a_subject_whatever_its_spelling(text: str, subject: str) -> None:
    assert names(text, subject)


@pytest.mark.parametrize(
    ("text", "subject"),
    [
        ("Paulina lives in", "Paul"),
        ("Paul met Smith", "Paul Smith"),
        ("C is a language", "C++"),
        ("रामायण किसने लिखी", "राम"),
        ("", "Paul"),
        ("Paul", ""),
    ],
)
def test_part_of_a_word_or_of_a_name_is_no_naming(text: str, subject: str) -> None:
    assert not names(text, subject)


@pytest.mark.parametrize(
    "text",
    ["\u00b4", "\u00b4\u00b4", "\u0301", "x\u00b4", "\u00af\\_(ツ)_/\u00af", "50 \u00a8 wide"],
)
def test_an_accent_without_a_letter_is_no_word(text: str) -> None:
    assert all(word.folded for word in words(normalise(text)))
    assert names(text, "\u00b4") is False
    assert name_of("x\u00b4") == name_of("x")


@given(st.text(max_size=2000))
def test_text_is_normalised_in_pieces_as_in_one(text: str) -> None:
    whole = unicodedata.normalize("NFKC", text)
    assert name_of(normalise(text)) == name_of(whole)


def test_long_words_are_folded_as_short_ones() -> None:
    assert name_of("É" * 1000) == ("e" * 1000,)
    assert name_of("e\u0301" * 1000) == ("e" * 1000,)
    assert name_of("각" * 1000) == name_of(unicodedata.normalize("NFD", "각" * 1000))


@pytest.mark.parametrize("unit", HOSTILE.values(), ids=HOSTILE.keys())
def test_the_time_for_a_text_does_not_grow_with_its_square(unit: str) -> None:
    """Square growth would take minutes for each of these."""
    text = (unit * 300_000)[:300_000]
    began = time.process_time()
    turn = parse_turn(text)
    assert time.process_time() - began < 5.0
    assert len(turn.text) <= LONGEST_TURN


def test_words_of_any_length_are_not_kept() -> None:
    tracemalloc.start()
    try:
        for letter in range(20):
            turn = parse_turn(chr(0xE9 + letter) * 60_000)
            assert not SubjectGate().opens(turn.words)
        del turn
        kept, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert kept < 1_000_000


def test_mask_replaces_every_naming() -> None:
    assert mask("Is Anna ANNA's friend?", "anna", "someone") == "Is someone someone's friend?"


@pytest.mark.parametrize(
    ("text", "sentences"),
    [
        ("One. Two? Three", ["One. ", "Two? ", "Three"]),
        ("Where is Dr. J. Smith?", ["Where is Dr. J. Smith?"]),
        ("He hates Xprof. She too.", ["He hates Xprof. ", "She too."]),
        ("a\nb", ["a\n", "b"]),
        ("J\n. b", ["J\n", ". ", "b"]),
        ("一。二", ["一。", "二"]),
        ("", []),
    ],
)
def test_sentence_bounds(text: str, sentences: list[str]) -> None:
    bounds = sentence_bounds(text)
    assert [text[a:b] for a, b in pairwise(bounds)] == sentences


@given(st.text())
def test_sentences_cover_the_text(text: str) -> None:
    bounds = sentence_bounds(text)
    assert bounds == sorted(set(bounds))
    assert (bounds[0], bounds[-1]) == (0, len(text))


@given(st.text(alphabet=st.characters(codec="ascii")))
def test_words_of_ascii_are_those_that_any_text_has(text: str) -> None:
    assert words(text) == words(f"{text} é")[:-1]


@given(st.text())
def test_words_are_ascending_and_leave_out_only_space_and_accents(text: str) -> None:
    plain = normalise(text)
    at = 0
    for word in words(plain):
        assert ACCENTS.sub("", plain[at : word.start]).strip() == ""
        assert word.folded
        assert word.start < word.end
        at = word.end
    assert ACCENTS.sub("", plain[at:]).strip() == ""


@given(st.text(alphabet=st.characters(categories=["Lu", "Ll", "Nd", "Zs", "Pd"]), min_size=1))
def test_a_name_names_itself_in_any_case(subject: str) -> None:
    if name_of(subject):
        assert names(f"- {subject} -", subject)
        assert names(f"- {normalise(subject)} -", subject)


@pytest.mark.parametrize(
    ("text", "closed"), [("a", "a."), ("a.", "a."), ("a?", "a?"), ("a!", "a!")]
)
def test_full_stop_is_added_once(text: str, closed: str) -> None:
    assert with_full_stop(text) == closed
