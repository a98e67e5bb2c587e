"""A pair of an edit and a request, and whether the edit concerns the request."""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from retriever.text import name_of, names

Kind = Literal["in_scope", "multi_hop", "hard", "easy"]
"""`hard`: another relation of the edit's subject. `easy`: the subject is somebody else.
`multi_hop`: the answer depends on the edit, so it is in scope."""

Side = Literal["train", "validation", "test"]


@dataclass(frozen=True, slots=True)
class TrainingEdit:
    """`prompt` names `subject`; `target` continues it."""

    prompt: str
    subject: str
    target: str


@dataclass(frozen=True, slots=True)
class Pair:
    """`turns` are the user turns of a conversation; the last one is the request."""

    edit: TrainingEdit
    turns: tuple[str, ...]
    kind: Kind
    source: str
    """The data set."""

    @property
    def in_scope(self) -> bool:
        return self.kind in ("in_scope", "multi_hop")

    @property
    def request(self) -> str:
        return self.turns[-1]

    @property
    def asks_backwards(self) -> bool:
        """Whether the request names the edit's target but not its subject.

        Some published questions ask who has the new answer. A memory looked up by subject is
        not meant to answer those.
        """
        return names(self.request, self.edit.target) and not names(self.request, self.edit.subject)


def side_of(subject: str) -> Side:
    """The side of a subject's pairs: the same in all data sets, whatever its spelling.

    Seven subjects in ten are for training, one for choosing the threshold, two for the test.
    """
    key = " ".join(name_of(subject))
    number = int.from_bytes(hashlib.sha256(key.encode()).digest()[:4]) % 10
    return "train" if number < 7 else "validation" if number == 7 else "test"


def on_side(pairs: Iterable[Pair], side: Side) -> list[Pair]:
    """The pairs whose edit's subject is on that side, each once."""
    return [pair for pair in dict.fromkeys(pairs) if side_of(pair.edit.subject) == side]
