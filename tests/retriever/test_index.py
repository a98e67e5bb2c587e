import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from retriever.encoder import Vectors
from retriever.index import VectorIndex

DIMENSION = 8


def unit(seed: int) -> Vectors:
    vector = np.random.default_rng(seed).normal(size=DIMENSION).astype(np.float32)
    return vector / np.linalg.norm(vector)


class IndexMachine(RuleBasedStateMachine):
    """The index finds what a search of a plain dict finds."""

    def __init__(self) -> None:
        super().__init__()
        self.index = VectorIndex()
        self.model: dict[int, Vectors] = {}

    @rule(keys=st.sets(st.integers(0, 30), min_size=1, max_size=5), seed=st.integers(0, 1000))
    def add(self, keys: set[int], seed: int) -> None:
        new = {key: unit(seed + key) for key in keys if key not in self.model}
        if new:
            self.index.add(list(new), np.stack(list(new.values())))
        self.model |= new

    @rule(key=st.integers(0, 30))
    def remove(self, key: int) -> None:
        if key in self.model:
            self.index.remove(key)
            del self.model[key]
        else:
            with pytest.raises(KeyError):
                self.index.remove(key)

    @rule(
        seed=st.integers(0, 1000),
        k=st.integers(0, 40),
        among=st.none() | st.lists(st.integers(0, 30), unique=True),
    )
    def search(self, seed: int, k: int, among: list[int] | None) -> None:
        query = unit(seed)
        live = {key: v for key, v in self.model.items() if among is None or key in among}
        expected = sorted((float(query @ v) for v in live.values()), reverse=True)[:k]
        found = self.index.search(query, k, among)
        assert [score for _, score in found] == pytest.approx(expected, abs=1e-5)
        assert all(score == pytest.approx(float(query @ live[k]), abs=1e-5) for k, score in found)

    @invariant()
    def length(self) -> None:
        assert len(self.index) == len(self.model)


TestIndex = IndexMachine.TestCase
TestIndex.settings = settings(max_examples=30, stateful_step_count=25, deadline=None)
