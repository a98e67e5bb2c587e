"""The memory against a search by hand of the facts that are in effect."""

import numpy as np
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from retriever import DuplicateFactError, Fact, UnknownFactError
from retriever.encoder import Vectors
from retriever.index import IndexLimits
from retriever.memory import Memory
from retriever.text import name_of, words

SUBJECTS = ["Ada", "Ada Lovelace", "Bo", "Cy"]
RELATIONS = ["employer", "spouse", "home"]
LIMITS = {
    "exact": IndexLimits(exact=1000, tail=2),
    "graph": IndexLimits(exact=3, graph=1000, tail=2, recall=1.0),
    "lists": IndexLimits(exact=3, graph=6, tail=2, recall=1.0),
}
ROUNDED = 1e-3


def unit(seed: int) -> Vectors:
    vector = np.random.default_rng(seed).normal(size=8).astype(np.float32)
    return vector / np.linalg.norm(vector)


class MemoryMachine(RuleBasedStateMachine):
    @initialize(kind=st.sampled_from(sorted(LIMITS)))
    def start(self, kind: str) -> None:
        self.memory = Memory(LIMITS[kind])
        self.facts: dict[str, tuple[Fact, Vectors]] = {}

    @rule(
        numbers=st.lists(st.integers(0, 30), min_size=1, max_size=4, unique=True),
        subject=st.sampled_from(SUBJECTS),
        relation=st.sampled_from(RELATIONS),
        aliases=st.sampled_from([(), ("Bo",), ("Countess",)]),
        seed=st.integers(0, 20),
    )
    def add(
        self, numbers: list[int], subject: str, relation: str, aliases: tuple[str, ...], seed: int
    ) -> None:
        prompt = f"The {relation} of {subject} is"
        new = [Fact(str(number), subject, prompt, "Acme", aliases=aliases) for number in numbers]
        vectors = np.stack([unit(seed + at) for at in range(len(new))])
        if any(fact.id in self.facts for fact in new):
            with pytest.raises(DuplicateFactError):
                self.memory.add(new, vectors)
            return
        self.memory.add(new, vectors)
        self.facts |= {fact.id: pair for fact, *pair in zip(new, new, vectors, strict=True)}

    @rule(number=st.integers(0, 30))
    def remove(self, number: int) -> None:
        if str(number) in self.facts:
            self.memory.remove(str(number))
            del self.facts[str(number)]
        else:
            with pytest.raises(UnknownFactError):
                self.memory.remove(str(number))

    @rule()
    def settle(self) -> None:
        self.memory.settle(60)

    @rule(seeds=st.lists(st.integers(0, 1000), min_size=1, max_size=3), k=st.integers(1, 12))
    def nearest_of_all(self, seeds: list[int], k: int) -> None:
        queries = np.stack([unit(seed) for seed in seeds])
        self._check(self.memory.nearest_of_all(queries, k), self._in_effect(), queries, k)

    @rule(name=st.sampled_from([*SUBJECTS, "Countess"]), seed=st.integers(0, 1000))
    def nearest(self, name: str, seed: int) -> None:
        queries = unit(seed).reshape(1, -1)
        filed = {
            key: pair
            for key, pair in self._in_effect().items()
            if name in (pair[0].subject, *pair[0].aliases)
        }
        found = self.memory.nearest({name_of(name): queries}, 5)
        self._check(found, filed, queries, 5)
        assert (name_of(name) in self.memory.mentions(words(name))) == bool(filed)

    @invariant()
    def length(self) -> None:
        assert len(self.memory) == len(self.facts)

    def teardown(self) -> None:
        self.memory.settle(60)

    def _in_effect(self) -> dict[str, tuple[Fact, Vectors]]:
        newest = {pair[0].about: key for key, pair in self.facts.items()}
        return {key: self.facts[key] for key in newest.values()}

    @staticmethod
    def _check(
        found: list[tuple[Fact, float]],
        expected: dict[str, tuple[Fact, Vectors]],
        queries: Vectors,
        k: int,
    ) -> None:
        best = {key: float((queries @ vector).max()) for key, (_, vector) in expected.items()}
        assert len({fact.id for fact, _ in found}) == len(found)
        scores = [score for _, score in found]
        assert scores == pytest.approx(sorted(best.values(), reverse=True)[:k], abs=ROUNDED)
        assert all(score == pytest.approx(best[fact.id], abs=ROUNDED) for fact, score in found)


TestMemory = MemoryMachine.TestCase
TestMemory.settings = settings(
    max_examples=30,
    stateful_step_count=30,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)


def test_what_is_not_in_effect_is_not_found() -> None:
    memory = Memory()
    versions = [Fact(key, "Ada", "The employer of Ada is", key) for key in ("a", "b", "c")]
    memory.add(versions, np.stack([unit(number) for number in range(3)]))
    for visible, gone in ((2, "c"), (1, "a"), (1, "b")):
        found = memory.nearest_of_all(np.stack([unit(0), unit(1)]), 3)
        assert [fact for fact, _ in found] == [versions[visible]]
        memory.remove(gone)
    assert memory.nearest_of_all(unit(0).reshape(1, -1), 3) == []
    assert memory.index.size == 0
