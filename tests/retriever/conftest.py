"""The real models, loaded once, and a look at what they are asked."""

from collections.abc import Sequence

import pytest

from retriever import Classifier, SentenceEncoder
from retriever.encoder import Vectors
from retriever.scope import shipped_classifier


class CountingEncoder:
    """Passes texts on to another encoder and keeps them."""

    def __init__(self, encoder: SentenceEncoder) -> None:
        self._encoder = encoder
        self.texts: list[str] = []

    def encode(self, texts: list[str]) -> Vectors:
        self.texts += texts
        return self._encoder.encode(texts)


@pytest.fixture(scope="session")
def encoder() -> SentenceEncoder:
    return SentenceEncoder()


@pytest.fixture
def counting(encoder: SentenceEncoder) -> CountingEncoder:
    return CountingEncoder(encoder)


class CountingClassifier:
    """Passes readings on to another classifier and keeps them."""

    def __init__(self, classifier: Classifier) -> None:
        self._classifier = classifier
        self.readings: list[tuple[str, str]] = []

    def scores(self, readings: Sequence[tuple[str, str]]) -> list[float]:
        self.readings += readings
        return self._classifier.scores(readings)


@pytest.fixture
def reader() -> CountingClassifier:
    return CountingClassifier(shipped_classifier())
