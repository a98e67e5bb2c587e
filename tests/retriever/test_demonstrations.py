import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from retriever import (
    Demonstration,
    InvalidDemonstrationError,
    SentenceEncoder,
    load_demonstrations,
)
from retriever.ike import DemonstrationStore
from retriever.ike.demonstrations import SHARES, Kind, shares

CAPITAL = Demonstration("The capital of France is Ur.", "The capital city of France is", "Ur")
SPORT = Demonstration("Bo plays chess.", "The sport of Bo is", "chess")
BORN = Demonstration("Bo was born in Ur.", "The birthplace of Bo is", "Ur")


def test_the_nearest_comes_last(encoder: SentenceEncoder) -> None:
    store = DemonstrationStore([CAPITAL, SPORT, BORN], encoder)
    found = store.nearest("The capital of Spain is Mi.", 2)
    assert len(found) == 2
    assert found[-1] == CAPITAL
    assert store.nearest("Al plays golf.", 9)[-1] == SPORT


def test_what_tells_of_an_edited_subject_is_left_out(encoder: SentenceEncoder) -> None:
    store = DemonstrationStore([CAPITAL, SPORT, BORN], encoder)
    assert store.nearest("Bo plays golf.", 3, [("bo",)]) == [CAPITAL]
    assert store.first(3, [("france",), ("b",)]) == [SPORT, BORN]


def test_none_asked_or_none_there(encoder: SentenceEncoder) -> None:
    assert DemonstrationStore([CAPITAL], encoder).nearest("a", 0) == []
    assert DemonstrationStore([], encoder).nearest("a", 3) == []


def test_kinds_share_the_places(encoder: SentenceEncoder) -> None:
    kinds: list[Kind] = ["copy", "update", "retain"]
    items = [
        Demonstration(f"The capital of O{i} is U{i}.", f"The capital of O{i} is", f"U{i}", kind)
        for i in range(8)
        for kind in kinds
    ]
    found = DemonstrationStore(items, encoder).nearest("The capital of X is Y.", 8)
    assert [sum(d.kind == kind for d in found) for kind in kinds] == [1, 3, 4]


def test_a_short_kind_leaves_its_places(encoder: SentenceEncoder) -> None:
    items = [Demonstration(f"Bo{i} plays.", f"Bo{i}", "golf", "copy") for i in range(6)]
    assert len(DemonstrationStore(items, encoder).nearest("Al plays.", 5)) == 5


@given(st.integers(0, 100))
def test_shares_fill_the_places(k: int) -> None:
    places = shares(k)
    assert sum(places.values()) == k
    for kind, share in SHARES.items():
        assert abs(places[kind] - k * share / 32) < 1


def test_paper_shares() -> None:
    assert shares(32) == {"copy": 4, "update": 12, "retain": 16}


def test_loading(tmp_path: Path) -> None:
    path = tmp_path / "demonstrations.jsonl"
    record = {"new_fact": "A is Ü.", "prompt": "A is", "answer": "Ü", "kind": "copy"}
    path.write_text(json.dumps(record, ensure_ascii=False) + "\n\n", encoding="utf-8")
    assert load_demonstrations(path) == (Demonstration("A is Ü.", "A is", "Ü", "copy"),)


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("{", "not JSON"),
        ("[]", "an object"),
        ('{"new_fact": "a", "prompt": "b"}', "answer"),
        ('{"new_fact": "a", "prompt": 1, "answer": "c"}', "prompt"),
        ('{"new_fact": " ", "prompt": "b", "answer": "c"}', "new_fact"),
        ('{"new_fact": "a", "prompt": "b", "answer": "c", "kind": "x"}', "kind"),
        ('{"new_fact": "a", "prompt": "b", "answer": "c", "kind": []}', "kind"),
    ],
)
def test_a_bad_line_is_named(tmp_path: Path, line: str, complaint: str) -> None:
    path = tmp_path / "demonstrations.jsonl"
    path.write_text(f"\n{line}\n", encoding="utf-8")
    with pytest.raises(InvalidDemonstrationError, match=f"line 2.*{complaint}"):
        load_demonstrations(path)
