"""The live facts: by id, by name and by vector, and which of them are in effect."""

import hashlib
from collections.abc import Iterable, Mapping, Sequence

from retriever.encoder import Vectors
from retriever.errors import DuplicateFactError, UnknownFactError
from retriever.fact import Fact
from retriever.index import IndexLimits, IndexState, VectorIndex
from retriever.name_index import NameIndex, Spans
from retriever.text import Name, Word


class Memory:
    """Facts with their vectors. Not thread-safe: its owner holds a lock.

    Of the facts with one prompt and subject only the one added last is in effect; removing it
    puts the one before it back into effect.
    """

    def __init__(self, limits: IndexLimits | None = None) -> None:
        self._facts: dict[int, Fact] = {}
        self._keys: dict[str, int] = {}
        # Hash of what a fact is about -> its key, or the keys of its versions, oldest first.
        self._versions: dict[bytes, int | list[int]] = {}
        self._names = NameIndex()
        self._vectors = VectorIndex(limits)
        self._next_key = 0

    def __len__(self) -> int:
        return len(self._facts)

    def check_new(self, facts: Sequence[Fact]) -> None:
        """Raise `DuplicateFactError` if an id is stored already or given twice."""
        given: set[str] = set()
        for fact in facts:
            if fact.id in self._keys or fact.id in given:
                raise DuplicateFactError(fact.id)
            given.add(fact.id)

    def add(self, facts: Sequence[Fact], vectors: Vectors) -> None:
        """Store facts with their vectors [len(facts), d], all of them or none."""
        self.check_new(facts)
        keys = range(self._next_key, self._next_key + len(facts))
        self._vectors.add(keys, vectors)
        self._next_key += len(facts)
        for key, fact in zip(keys, facts, strict=True):
            self._facts[key] = fact
            self._keys[fact.id] = key
            about = _about(fact)
            versions = _several(self._versions.get(about))
            if versions:
                self._hide(versions[-1])
                self._versions[about] = [*versions, key]
            else:
                self._versions[about] = key
            self._file(key)

    def remove(self, fact_id: str) -> None:
        """Forget a fact. Raises `UnknownFactError`."""
        if fact_id not in self._keys:
            raise UnknownFactError(fact_id)
        key = self._keys.pop(fact_id)
        self._hide(key)
        self._vectors.remove(key)
        about = _about(self._facts.pop(key))
        versions = [version for version in _several(self._versions.pop(about)) if version != key]
        if versions:
            self._versions[about] = versions if len(versions) > 1 else versions[0]
            self._file(versions[-1])
            self._vectors.set_visible(versions[-1], True)

    def mentions(self, text: Sequence[Word]) -> dict[Name, Spans]:
        """Names of facts in effect that the text names, with their spans."""
        return self._names.mentions(text)

    def may_mention(self, text: Sequence[Word]) -> bool:
        """Whether the text may name a fact in effect by a spelling other than the stored one.

        If not, `nearest_of_all` finds no fact that concerns the text.
        """
        return self._names.may_mention(text)

    def facts_named(self, name: Name) -> list[Fact]:
        """Facts in effect under a name, oldest first."""
        return [self._facts[key] for key in self._names.keys(name)]

    def nearest(self, vectors: Mapping[Name, Vectors], k: int) -> list[tuple[Fact, float]]:
        """The k facts in effect nearest to what a text says about each name, best first.

        `vectors` [n, d] per name; a fact's score is its best cosine with a vector of a name it
        is filed under. Of equal scores the fact added later comes first.
        """
        best: dict[int, float] = {}
        for name, rows in vectors.items():
            among = self._names.keys(name)
            for row in rows:
                for key, score in self._vectors.search(row, k, among):
                    best[key] = max(score, best.get(key, score))
        return self._ranked(best.items(), k)

    def nearest_of_all(
        self, vectors: Vectors, k: int, *, exact: bool = False
    ) -> list[tuple[Fact, float]]:
        """The k facts in effect, whatever their names, nearest to any of the vectors [n, d].

        Best first; approximate for a large memory unless `exact`, see `VectorIndex`. A fact's
        score is its best cosine. Of equal scores the fact added later comes first.
        """
        best: dict[int, float] = {}
        for row in vectors:
            for key, score in self._vectors.search(row, k, exact=exact):
                best[key] = max(score, best.get(key, score))
        return self._ranked(best.items(), k)

    def recall(self, vectors: Vectors) -> float:
        """The share of the vectors [n, d] for which `nearest_of_all` finds the best match."""
        return self._vectors.recall(vectors)

    @property
    def index(self) -> IndexState:
        """The current state of the index."""
        return self._vectors.state

    def settle(self, timeout: float | None = None) -> None:
        """Wait until the index has the structure that the size calls for; raises TimeoutError."""
        self._vectors.settle(timeout)

    def _ranked(self, scores: Iterable[tuple[int, float]], k: int) -> list[tuple[Fact, float]]:
        ranked = sorted(scores, key=lambda item: (item[1], item[0]), reverse=True)
        return [(self._facts[key], score) for key, score in ranked[:k]]

    def _file(self, key: int) -> None:
        for name in self._facts[key].names:
            self._names.add(name, key)

    def _hide(self, key: int) -> None:
        self._vectors.set_visible(key, False)
        for name in self._facts[key].names:
            self._names.discard(name, key)


def _about(fact: Fact) -> bytes:
    """A hash of `fact.about`, which takes a fraction of its memory."""
    prompt, subject = fact.about
    text = "\n".join((" ".join(prompt), " ".join(subject)))
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()


def _several(versions: int | list[int] | None) -> list[int]:
    if versions is None:
        return []
    return [versions] if isinstance(versions, int) else versions
