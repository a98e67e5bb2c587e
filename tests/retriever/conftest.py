"""The real encoder, loaded once, and a look at how often it is called."""

import pytest

from retriever import SentenceEncoder
from retriever.encoder import Vectors


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
