"""Demonstrations of when to use, and when to ignore, a fact given in the prompt."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import numpy as np

from retriever.encoder import Encoder, Vectors
from retriever.errors import InvalidDemonstrationError
from retriever.text import Name, name_of

Kind = Literal["copy", "update", "retain"]

# Shares among 32 demonstrations in IKE (Zheng et al. 2023, "Can We Edit Factual Knowledge by
# In-Context Learning?").
SHARES: dict[Kind, int] = {"copy": 4, "update": 12, "retain": 16}

SHIPPED = Path(__file__).parent / "shipped" / "demonstrations.jsonl"


@dataclass(frozen=True, slots=True)
class Demonstration:
    """A new fact, a prompt after it, and the right answer."""

    new_fact: str
    """The whole statement, answer included."""
    prompt: str
    answer: str
    kind: Kind | None = None
    """copy: the prompt is the fact's own; update: it is reworded; retain: it is about
    something else, and the answer is what was true before."""


def load_demonstrations(path: Path) -> tuple[Demonstration, ...]:
    """Read JSON lines with `new_fact`, `prompt`, `answer` and optionally `kind`.

    Blank lines are skipped. Raises `InvalidDemonstrationError` naming the line.
    """
    with path.open(encoding="utf-8-sig") as lines:
        return tuple(
            _parse(line, f"{path}, line {number}")
            for number, line in enumerate(lines, 1)
            if line.strip()
        )


def shipped_demonstrations() -> tuple[Demonstration, ...]:
    """The demonstrations that come with the package: well-known subjects, made-up changes."""
    return load_demonstrations(SHIPPED)


def _parse(line: str, where: str) -> Demonstration:
    try:
        record = json.loads(line)
    except json.JSONDecodeError as error:
        raise InvalidDemonstrationError(f"{where}: not JSON ({error}).") from error
    return demonstration_from(record, where)


def demonstration_from(record: object, where: str = "demonstration") -> Demonstration:
    """Build a demonstration from a decoded JSON object, checking types."""
    if not isinstance(record, dict):
        raise InvalidDemonstrationError(f"{where}: expected an object.")
    kind = record.get("kind")
    if kind is not None and kind not in get_args(Kind):
        raise InvalidDemonstrationError(f"{where}: `kind` is one of {', '.join(get_args(Kind))}.")
    for field in ("new_fact", "prompt", "answer"):
        if not isinstance(record.get(field), str) or not record[field].strip():
            raise InvalidDemonstrationError(f"{where}: `{field}` must be non-empty text.")
    return Demonstration(record["new_fact"], record["prompt"], record["answer"], kind)


class DemonstrationStore:
    """Demonstrations, selected by similarity. Thread-safe; encoded at first use.

    One that contains any of the names in `without` is never selected: what it says about an edited
    subject was true before the edit and would contradict it.
    """

    def __init__(self, demonstrations: Iterable[Demonstration], encoder: Encoder) -> None:
        self._items = tuple(demonstrations)
        self._words = tuple(_joined(name_of(f"{d.new_fact} {d.prompt}")) for d in self._items)
        self._encoder = encoder
        self._vectors: Vectors | None = None

    def __len__(self) -> int:
        return len(self._items)

    def load(self) -> Vectors | None:
        """The demonstrations' vectors, computed once; None if there are none."""
        if self._items and self._vectors is None:
            self._vectors = self._encoder.encode([item.new_fact for item in self._items])
        return self._vectors

    def first(self, k: int, without: Iterable[Name] = ()) -> list[Demonstration]:
        """At most k demonstrations, always the same, in the store's order.

        Kinds share the places as in `nearest`.
        """
        order = self._free(range(len(self._items)), without)
        chosen = self._balanced(order, min(k, len(order)))
        return [self._items[i] for i in order if i in chosen]

    def nearest(self, new_fact: str, k: int, without: Iterable[Name] = ()) -> list[Demonstration]:
        """At most k demonstrations, the one whose fact is nearest to the new fact last.

        Every request about a fact gets the same ones, so that a prefix cache serves them.
        If demonstrations have kinds, copy, update and retain share the places 4 : 12 : 16;
        if a kind has too few, the nearest of the others take its places.
        """
        vectors = self.load()
        if k < 1 or vectors is None:
            return []
        similarity = vectors @ self._encoder.encode([new_fact])[0]
        order = self._free(np.argsort(-similarity, kind="stable").tolist(), without)
        chosen = self._balanced(order, min(k, len(order)))
        return [self._items[i] for i in reversed(order) if i in chosen]

    def _free(self, order: Iterable[int], without: Iterable[Name]) -> list[int]:
        names = [_joined(name) for name in without]
        return [i for i in order if not any(name in self._words[i] for name in names)]

    def _balanced(self, order: Sequence[int], k: int) -> set[int]:
        chosen: set[int] = set()
        if any(item.kind for item in self._items):
            for kind, places in shares(k).items():
                chosen.update([i for i in order if self._items[i].kind == kind][:places])
        rest = [i for i in order if i not in chosen]
        return chosen | set(rest[: k - len(chosen)])


def shares(k: int) -> dict[Kind, int]:
    """k places divided by `SHARES`, the largest remainders rounded up."""
    total = sum(SHARES.values())
    places = {kind: k * share // total for kind, share in SHARES.items()}
    by_remainder = sorted(SHARES, key=lambda kind: k * SHARES[kind] % total, reverse=True)
    for kind in by_remainder[: k - sum(places.values())]:
        places[kind] += 1
    return places


def _joined(name: Name) -> str:
    """The name as text: a longer name's text contains that of each name inside it."""
    return f" {' '.join(name)} "
