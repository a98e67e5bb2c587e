"""The memory of feedback, searched by the similarity of questions."""

import threading
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from retriever.encoder import ENCODED, Encoder, Vectors
from retriever.errors import DuplicateFactError, UnknownFactError

DEFAULT_LIKENESS = 0.55
"""Minimum cosine between a question and its kind, for all-MiniLM-L6-v2.

"What is the capital of Peru?" has 0.64 with "What is the capital of ?", and "What is the currency
of France?" 0.37.
"""


@dataclass(frozen=True, slots=True)
class Feedback:
    """A user's note on a kind of question."""

    id: str
    question: str
    """The kind of question: a typical question with the varying part left out."""
    text: str
    user: str | None = None
    """The user whose questions it applies to; None for all users."""


Recalled = tuple[Feedback, float]


class FeedbackMemory:
    """Feedback, found by the similarity of questions with exact search. Thread-safe.

    If several entries have the same question and user, only the newest is recalled.
    """

    def __init__(self, encoder: Encoder, likeness: float = DEFAULT_LIKENESS, most: int = 1) -> None:
        self._encoder = encoder
        self._likeness = likeness
        self._most = most
        self._items: dict[str, Feedback] = {}
        self._vectors: Vectors | None = None
        self._lock = threading.Lock()

    def empty_copy(self) -> "FeedbackMemory":
        """An empty memory that shares the encoder and the settings."""
        return FeedbackMemory(self._encoder, self._likeness, self._most)

    def __len__(self) -> int:
        return len(self._items)

    def add_many(self, feedback: Iterable[Feedback]) -> None:
        """Store feedback, oldest first: all of it or, on an error, none."""
        new = list(feedback)
        if not new:
            return
        vectors = self._encoder.encode([item.question for item in new])
        with self._lock:
            for at, item in enumerate(new):
                if item.id in self._items or item.id in {other.id for other in new[:at]}:
                    raise DuplicateFactError(item.id)
            stored = [] if self._vectors is None else [self._vectors]
            self._items = self._items | {item.id: item for item in new}
            self._vectors = np.concatenate([*stored, vectors])

    def remove(self, feedback_id: str) -> None:
        """Forget feedback. Raises `UnknownFactError`."""
        with self._lock:
            if feedback_id not in self._items or self._vectors is None:
                raise UnknownFactError(feedback_id)
            at = list(self._items).index(feedback_id)
            self._items = {k: item for k, item in self._items.items() if k != feedback_id}
            self._vectors = np.delete(self._vectors, at, axis=0)

    def recall(self, question: str, user: str | None = None) -> list[Recalled]:
        """Feedback on similar questions, the most similar first; of equals the newest."""
        with self._lock:
            items, vectors = list(self._items.values()), self._vectors
        if not items or vectors is None or not question.strip():
            return []
        cosines = vectors @ self._encoder.encode([question[-ENCODED:]])[0]
        newest: dict[tuple[str, str | None], Recalled] = {}
        for item, cosine in zip(items, cosines.tolist(), strict=True):
            if cosine >= self._likeness and item.user in (None, user):
                newest.pop((item.question, item.user), None)
                newest[item.question, item.user] = item, cosine
        newest_first = [*newest.values()][::-1]
        return sorted(newest_first, key=lambda hit: hit[1], reverse=True)[: self._most]
