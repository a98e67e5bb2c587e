"""Every metric against values worked out by hand."""

import math

import pytest

from vllm_edit.domain.scoring import (
    begins_with,
    exact_match,
    first_word,
    harmonic_mean,
    kl_divergence,
    ngram_entropy,
    normalized,
    prefers,
    runs_on,
    says,
    token_match,
    unchanged,
)
from vllm_edit.evaluation.bootstrap import interval


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
        ("東京です", "東京", 1.0),
        ("?", "?", 1.0),
        ("Parisian", "Paris", 0.0),
        ("54 metres", "5", 0.0),
        ("Par", "Paris", 0.0),
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
def test_a_told_answer_may_run_on(generated: str, goes_on: float | None) -> None:
    assert runs_on(generated, ["Paris"]) == goes_on


def test_initials_in_a_target_end_no_sentence() -> None:
    assert runs_on("J. S. Bach. He", ["J. S. Bach"]) == 0.0
    assert runs_on("J. S. Bach, he", ["J. S. Bach"]) == 1.0


def test_a_sentence_says_its_whole_words() -> None:
    assert says("It is in Paris.", ["Paris"]) == 1.0
    assert says("It is Parisian. Paris", ["Paris"]) == 0.0
    assert says("anything", ["the"]) == 0.0


def test_the_first_word_has_no_case() -> None:
    assert first_word("  Paris, France") == first_word("paris") == "paris"
    assert first_word("...") == ""


def test_token_match_is_a_share_of_positions() -> None:
    # The example of EasyEdit's README.
    assert token_match([29, 234, 333], [29, 234, 334]) == pytest.approx(2 / 3)
    assert token_match([1, 2], [1, 2]) == 1.0


def test_preference_is_by_lower_negative_log_likelihood() -> None:
    assert prefers(0.5, 0.7) == 1.0
    assert prefers(0.7, 0.5) == 0.0
    assert prefers(0.5, 0.5) == 0.0


def test_the_score_is_a_harmonic_mean() -> None:
    assert harmonic_mean([1.0, 0.5, 0.25]) == pytest.approx(3 / 7)
    assert harmonic_mean([1.0, 0.0]) == 0.0
    assert harmonic_mean([]) == 0.0


def test_fluency_weighs_the_entropies_of_bigrams_and_trigrams() -> None:
    # Four different bigrams: 2 bits. Three different trigrams: log2(3) bits.
    expected = (2 / 3 * 2 + 4 / 3 * math.log2(3)) / 2
    assert ngram_entropy("a b c d e") == pytest.approx(expected)
    assert ngram_entropy("a a a a a a") == 0.0
    assert ngram_entropy("") == 0.0


def test_divergence_lumps_together_what_was_not_given() -> None:
    before = {1: math.log(0.5), 2: math.log(0.25)}
    after = {1: math.log(0.25), 2: math.log(0.25)}
    expected = 0.5 * math.log(2) + 0.25 * math.log(0.25 / 0.5)
    assert kl_divergence(before, after) == pytest.approx(expected)
    assert kl_divergence(before, before) == 0.0
    assert kl_divergence({1: 0.0}, {1: math.log(0.5)}) == pytest.approx(math.log(2))


def test_the_interval_is_seeded_and_holds_the_mean() -> None:
    values = [0.0] * 10 + [1.0] * 30
    low, high = interval(values, seed=1)
    assert (low, high) == interval(values, seed=1)
    # A normal approximation has 0.75 +- 0.134.
    assert low == pytest.approx(0.62, abs=0.04)
    assert high == pytest.approx(0.88, abs=0.04)
    assert interval([1.0, 1.0], seed=1) == (1.0, 1.0)
