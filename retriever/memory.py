"""The live facts: by id, by name and by vector, and which of them are in effect."""

from collections.abc import Mapping, Sequence

from retriever.encoder import Vectors
from retriever.errors import DuplicateFactError, UnknownFactError
from retriever.fact import Fact
from retriever.index import VectorIndex
from retriever.names import NameIndex, Spans
from retriever.text import Name, Word, name_of


class Memory:
    """Facts with their vectors. Not thread-safe: its owner holds a lock.

    Of the facts with one prompt and subject only the one added last is in effect; removing it
    puts the one before it back into effect.
    """

    def __init__(self) -> None:
        self._facts: dict[int, Fact] = {}
        self._keys: dict[str, int] = {}
        self._versions: dict[tuple[Name, Name], list[int]] = {}
        self._names = NameIndex()
        self._vectors = VectorIndex()
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
            versions = self._versions.setdefault(fact.about, [])
            if versions:
                self._hide(versions[-1])
            versions.append(key)
            self._show(key)

    def remove(self, fact_id: str) -> None:
        """Forget a fact. Raises `UnknownFactError`."""
        if fact_id not in self._keys:
            raise UnknownFactError(fact_id)
        key = self._keys.pop(fact_id)
        self._hide(key)
        self._vectors.remove(key)
        version = self._facts.pop(key).about
        versions = self._versions[version]
        versions.remove(key)
        if versions:
            self._show(versions[-1])
        else:
            del self._versions[version]

    def mentions(self, text: Sequence[Word]) -> dict[Name, Spans]:
        """Names of facts in effect that the text names, with their spans."""
        return self._names.mentions(text)

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
        ranked = sorted(best.items(), key=lambda item: (item[1], item[0]), reverse=True)
        return [(self._facts[key], score) for key, score in ranked[:k]]

    def _show(self, key: int) -> None:
        for name in _names(self._facts[key]):
            self._names.add(name, key)

    def _hide(self, key: int) -> None:
        for name in _names(self._facts[key]):
            self._names.discard(name, key)


def _names(fact: Fact) -> set[Name]:
    return {name_of(name) for name in (fact.subject, *fact.aliases)}
