"""Every metric against values worked out by hand."""

import math

import pytest

from vllm_edit.domain.scoring import (
    harmonic_mean,
    kl_divergence,
    ngram_entropy,
    prefers,
    token_match,
)
from vllm_edit.evaluation.bootstrap import interval


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
