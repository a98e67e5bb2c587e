"""The index against a search of a plain dict, for each structure, while it is built anew."""

import threading
import time
import weakref

import numpy as np
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from retriever import InvalidSettingsError
from retriever.encoder import Vectors
from retriever.index import IndexLimits, VectorIndex
from retriever.index.limits import Kind

DIMENSION = 8
LIMITS = {
    "exact": IndexLimits(exact=10_000, graph=10_000, tail=2),
    "graph": IndexLimits(exact=4, graph=10_000, tail=3, recall=1.0),
    "lists": IndexLimits(exact=4, graph=8, tail=3, recall=1.0),
}
ROUNDED = 1e-3
"""How far float16 rows of so few dimensions move a cosine."""


def unit(seed: int) -> Vectors:
    vector = np.random.default_rng(seed).normal(size=DIMENSION).astype(np.float32)
    return vector / np.linalg.norm(vector)


def many(count: int, seed: int = 0, dimension: int = 32) -> Vectors:
    vectors = np.random.default_rng(seed).normal(size=(count, dimension)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


class IndexMachine(RuleBasedStateMachine):
    """Vectors come several times, so that keys share them."""

    @initialize(kind=st.sampled_from(sorted(LIMITS)))
    def start(self, kind: str) -> None:
        self.index = VectorIndex(LIMITS[kind])
        self.model: dict[int, Vectors] = {}
        self.hidden: set[int] = set()
        self.next = 0

    @rule(seeds=st.lists(st.integers(0, 40), min_size=1, max_size=6), gap=st.integers(0, 2))
    def add(self, seeds: list[int], gap: int) -> None:
        keys = range(self.next + gap, self.next + gap + len(seeds))
        vectors = np.stack([unit(seed) for seed in seeds])
        self.index.add(keys, vectors)
        self.model |= dict(zip(keys, vectors, strict=True))
        self.next = keys.stop

    @rule(data=st.data())
    def remove(self, data: st.DataObject) -> None:
        key = data.draw(st.integers(-1, self.next))
        if key not in self.model:
            with pytest.raises(KeyError):
                self.index.remove(key)
            return
        self.index.remove(key)
        del self.model[key]
        self.hidden.discard(key)

    @rule(data=st.data(), visible=st.booleans())
    def show(self, data: st.DataObject, visible: bool) -> None:
        key = data.draw(st.integers(-1, self.next))
        if key not in self.model:
            with pytest.raises(KeyError):
                self.index.set_visible(key, visible)
            return
        self.index.set_visible(key, visible)
        self.hidden = self.hidden - {key} if visible else self.hidden | {key}

    @rule()
    def settle(self) -> None:
        self.index.settle(60)
        size, state = len(self.model), self.index.state
        assert state.kind == self.index.limits.kind(size, state.kind)

    @rule(
        seed=st.integers(0, 1000),
        k=st.integers(0, 50),
        among=st.none() | st.lists(st.integers(0, 60), unique=True),
        exact=st.booleans(),
    )
    def search(self, seed: int, k: int, among: list[int] | None, exact: bool) -> None:
        query = unit(seed)
        cosines = {
            key: float(query @ vector)
            for key, vector in self.model.items()
            if key not in self.hidden and (among is None or key in among)
        }
        found = self.index.search(query, k, among, exact=exact)
        expected = sorted(cosines.values(), reverse=True)[:k]
        assert [score for _, score in found] == pytest.approx(expected, abs=ROUNDED)
        assert len({key for key, _ in found}) == len(found)
        assert all(score == pytest.approx(cosines[key], abs=ROUNDED) for key, score in found)

    @invariant()
    def length(self) -> None:
        assert len(self.index) == len(self.model)

    def teardown(self) -> None:
        self.index.settle(60)


TestIndex = IndexMachine.TestCase
TestIndex.settings = settings(
    max_examples=40,
    stateful_step_count=25,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)


@pytest.mark.parametrize("kind", ["graph", "lists"])
def test_a_large_index_finds_what_exact_search_finds(kind: Kind) -> None:
    limits = IndexLimits(exact=500, graph=500 if kind == "lists" else 10_000, tail=200)
    index = VectorIndex(limits)
    index.add(range(3000), many(3000))
    index.settle(60)
    assert index.state.kind == kind
    assert index.state.tail == 0
    near = many(3000)[:300] + 0.3 * many(300, seed=1)
    assert index.recall(near / np.linalg.norm(near, axis=1, keepdims=True)) >= 0.98


@pytest.mark.parametrize("kind", ["graph", "lists"])
def test_equal_vectors_are_all_found_and_kept_once(kind: Kind) -> None:
    limits = IndexLimits(exact=100, graph=100 if kind == "lists" else 10_000, tail=100)
    index = VectorIndex(limits)
    few = many(20)
    index.add(range(2000), np.tile(few, (100, 1)))
    index.settle(60)
    assert index.state.kind == kind
    found = index.search(few[3], 100)
    assert sorted(key for key, _ in found) == list(range(3, 2000, 20))
    assert index._main is not None
    assert len(index._main.structure) == len(few)


def test_what_lies_behind_removed_vectors_is_found() -> None:
    """The nearest hundreds are gone: more than a search of the graph looks at."""
    index = VectorIndex(IndexLimits(exact=100, graph=10_000, tail=5000, dead=0.9))
    vectors = many(2000)
    index.add(range(2000), vectors)
    index.settle(60)
    order = np.argsort(-(vectors @ vectors[0])).tolist()
    for key in order[:1000]:
        index.remove(key)
    assert index.search(vectors[0], 3)[0][0] == order[1000]


def test_removed_vectors_leave_with_the_next_build() -> None:
    index = VectorIndex(IndexLimits(exact=5000, graph=5000, tail=100))
    index.add(range(2000), many(2000))
    for key in range(0, 2000, 2):
        index.remove(key)
    index.settle(60)
    assert index.state.dead < 0.3 * len(index)
    assert len(index) == 1000
    assert index.search(many(2000)[5], 1)[0][0] == 5


def test_an_index_changes_its_kind_with_its_size_and_back() -> None:
    index = VectorIndex(IndexLimits(exact=200, graph=1000, tail=100))
    vectors = many(2000)
    kinds = []
    for at in range(0, 2000, 100):
        index.add(range(at, at + 100), vectors[at : at + 100])
        index.settle(60)
        kinds.append(index.state.kind)
    for key in range(1950):
        index.remove(key)
        if key % 50 == 0:
            index.settle(60)
            kinds.append(index.state.kind)
    steps = [kind for at, kind in enumerate(kinds) if not at or kinds[at - 1] != kind]
    assert steps == ["exact", "graph", "lists", "graph", "exact"]
    assert {key for key, _ in index.search(vectors[1999], 50)} == set(range(1950, 2000))


def test_searches_go_on_while_vectors_come_and_go() -> None:
    """Behind one lock, as an owner has it: no search finds what is removed, nor misses the rest."""
    index = VectorIndex(IndexLimits(exact=300, graph=900, tail=100, recall=1.0))
    vectors = many(3000)
    live: set[int] = set()
    lock, stop = threading.Lock(), threading.Event()
    wrong: list[str] = []
    searches = [0, 0]

    def search(worker: int) -> None:
        generator = np.random.default_rng(worker)
        while not stop.is_set():
            key = int(generator.integers(0, 3000))
            with lock:
                found = [found for found, _ in index.search(vectors[key], 1)]
                if (found == [key]) != (key in live):
                    wrong.append(f"{key}: {found}, stored: {key in live}")
            searches[worker] += 1

    threads = [threading.Thread(target=search, args=(worker,)) for worker in range(2)]
    for thread in threads:
        thread.start()
    for at in range(0, 3000, 20):
        with lock:
            index.add(range(at, at + 20), vectors[at : at + 20])
            live |= set(range(at, at + 20))
        for key in range(at, at + 20, 3):
            with lock:
                index.remove(key)
                live.discard(key)
    with lock:
        index.settle(60)
    deadline = time.monotonic() + 60
    while min(searches) < 200 and time.monotonic() < deadline:
        threading.Event().wait(0.01)
    stop.set()
    for thread in threads:
        thread.join(60)
    assert wrong == []
    assert min(searches) >= 200


def test_keys_ascend() -> None:
    index = VectorIndex()
    index.add([3, 5], many(2))
    for keys in ([5], [4], [7, 7], [9, 8]):
        with pytest.raises(ValueError, match="ascend"):
            index.add(keys, many(len(keys)))
    index.remove(5)
    with pytest.raises(ValueError, match="ascend"):
        index.add([5], many(1))
    assert len(index) == 1


def test_an_unused_index_stops_building() -> None:
    index = VectorIndex(IndexLimits(exact=10, graph=1_000_000, tail=10))
    index.add(range(60_000), many(60_000, dimension=64))
    build = index._build
    assert build is not None
    alive = weakref.ref(index)
    del index
    assert alive() is None
    assert build.stop.is_set()
    assert build.result.exception(60) is not None


@pytest.mark.parametrize(
    "limits", [{"exact": 0}, {"exact": 9, "graph": 8}, {"tail": 0}, {"dead": 1.0}, {"recall": 0.0}]
)
def test_limits_out_of_range_are_refused(limits: dict[str, float]) -> None:
    with pytest.raises(InvalidSettingsError):
        IndexLimits(**limits)  # type: ignore[arg-type]
