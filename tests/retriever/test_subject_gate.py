import pytest
from hypothesis import given
from hypothesis import strategies as st

from retriever.name_index import NameIndex
from retriever.subject_gate import SubjectGate
from retriever.text import name_of, words


def opens(text: str, *names: str) -> bool:
    gate = SubjectGate()
    for name in names:
        gate.add(name_of(name))
    return gate.opens(words(text))


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("What family are Javan surilis?", "Javan surili"),
        ("How was the founding year of Irbits?", "Irbit"),
        ("Who is Prince Emmanuel's father?", "Prince Emmanuel of Belgium"),
        ("The mother of Michael de la Pole, 3. Earl of Suffolk?", "Michael de la Pole, 3rd Earl"),
        ("What did Lovelace, Ada write?", "Ada Lovelace"),
        ("Is Ada King Lovelace a poet?", "Ada Lovelace"),
        ("Which family is Tiliacara's?", "Tiliacora"),
    ],
)
def test_the_gate_opens_for_a_name_in_other_words(text: str, name: str) -> None:
    assert opens(text, name)
    assert not opens(text, "Somebody Else", "The Hague")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Write a poem about the sea.",
        "Is Ada an old name?",
        "Where does John live, and what is the work of his colleague Smith?",
    ],
)
def test_the_gate_stays_shut_for_the_rest(text: str) -> None:
    assert not opens(text, "Ada Lovelace", "John Smith", "The North Sea")


@given(
    st.lists(st.lists(st.sampled_from(["ada", "king", "of", "s", "!"]), min_size=1, max_size=3)),
    st.data(),
)
def test_what_is_forgotten_leaves_nothing(names: list[list[str]], data: st.DataObject) -> None:
    index = NameIndex()
    for key, name in enumerate(names):
        index.add(tuple(name), key)
    for key, name in data.draw(st.permutations(list(enumerate(names)))):
        index.discard(tuple(name), key)
    assert len(index) == 0
    assert index._begin == {}
    assert index._gate._pairs == {}
    assert not index.may_mention(words("ada king of s"))
