from hypothesis import given
from hypothesis import strategies as st

from retriever.name_index import NameIndex
from retriever.text import name_of, words

WORD = st.sampled_from("abc")
NAME = st.lists(WORD, min_size=1, max_size=3).map(" ".join)


def index_of(*names: str) -> NameIndex:
    index = NameIndex()
    for key, name in enumerate(names):
        index.add(name_of(name), key)
    return index


def found(index: NameIndex, text: str) -> dict[str, list[str]]:
    spans = index.mentions(words(text))
    return {" ".join(name): [text[a:b] for a, b in at] for name, at in spans.items()}


def test_the_longer_name_wins() -> None:
    index = index_of("Paul", "Paul Smith")
    assert found(index, "Is Paul Smith here?") == {"paul smith": ["Paul Smith"]}
    assert found(index, "Paul Smith and Paul") == {"paul smith": ["Paul Smith"], "paul": ["Paul"]}


def test_overlapping_names_both_count() -> None:
    index = index_of("New York City", "City Hall")
    assert found(index, "New York City Hall") == {
        "new york city": ["New York City"],
        "city hall": ["City Hall"],
    }


def test_a_name_without_keys_is_forgotten() -> None:
    index = index_of("Paul", "Paul")
    index.discard(("paul",), 0)
    assert index.keys(("paul",)) == [1]
    index.discard(("paul",), 1)
    index.discard(("paul",), 1)
    assert found(index, "Paul") == {}
    assert index.keys(("paul",)) == []


@given(st.lists(NAME, max_size=5), st.lists(NAME, max_size=5), st.lists(WORD).map(" ".join))
def test_mentions_equal_a_scan(added: list[str], removed: list[str], text: str) -> None:
    index = index_of(*added)
    for name in removed:
        for key in list(index.keys(name_of(name))):
            index.discard(name_of(name), key)
    live = {name_of(name) for name in added} - {name_of(name) for name in removed}
    parts = tuple(text.split())
    matches = {
        (start, start + len(name))
        for name in live
        for start in range(len(parts))
        if parts[start : start + len(name)] == name
    }
    outermost = {
        (a, b)
        for a, b in matches
        if not any((c, d) != (a, b) and c <= a and b <= d for c, d in matches)
    }
    assert set(index.mentions(words(text))) == {parts[a:b] for a, b in outermost}
