"""The A/B rule by itself: sticky, and true to its weights."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vllm_edit.domain.traffic_split import TrafficSplit


@given(st.text(max_size=20), st.dictionaries(st.text(min_size=1), st.floats(1e-3, 1e3), min_size=1))
def test_a_key_always_sees_the_same_variant(key: str, weights: dict[str, float]) -> None:
    assert TrafficSplit(weights).choose(key) == TrafficSplit(dict(weights)).choose(key)
    assert TrafficSplit(weights).choose(key) in weights


def test_the_shares_are_those_of_the_weights() -> None:
    split = TrafficSplit({"base": 1.0, "a": 2.0, "b": 5.0})
    seen = Counter(split.choose(f"user {number}") for number in range(8000))
    assert seen["base"] == pytest.approx(1000, rel=0.15)
    assert seen["a"] == pytest.approx(2000, rel=0.1)


def test_more_weight_takes_no_user_away() -> None:
    before, after = TrafficSplit({"a": 1.0, "b": 3.0}), TrafficSplit({"a": 2.0, "b": 2.0})
    for number in range(500):
        if before.choose(str(number)) == "a":
            assert after.choose(str(number)) == "a"
