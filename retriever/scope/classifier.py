"""The trained classifier: the probability that a fact concerns a request."""

import threading
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from retriever.batching import Batched
from retriever.encoder import Dtype
from retriever.scope.classifier_input import ClassifierInput
from retriever.scope.files import SHIPPED, load

if TYPE_CHECKING:
    from retriever.scope.network import CrossEncoder

BATCH = 32


class Classifier(Protocol):
    """Thread-safe, deterministic except for rounding."""

    def scores(self, inputs: Sequence[ClassifierInput]) -> list[float]:
        """For each request and fact, as `retriever.scope.classifier_input` makes them, 0 to 1."""
        ...


class ScopeClassifier:
    """A cross-encoder in a folder, loaded at first use.

    Inputs of concurrent calls are classified together, and the most recent scores are cached. The
    base computes in `dtype`.
    """

    def __init__(self, folder: Path, *, dtype: Dtype = "float32", cache_size: int = 16384) -> None:
        self.folder = folder
        self._dtype = dtype
        self._network: CrossEncoder | None = None
        self._loading = threading.Lock()
        self._answers: Batched[ClassifierInput, float] = Batched(self._classify, cache_size)

    def load(self) -> "CrossEncoder":
        """The network; raises `InvalidClassifierError` or `EncoderUnavailableError`."""
        with self._loading:
            if self._network is None:
                self._network = load(self.folder, self._dtype)
            return self._network

    def scores(self, inputs: Sequence[ClassifierInput]) -> list[float]:
        """See `Classifier.scores`."""
        return self._answers.ask(inputs)

    def _classify(self, inputs: list[ClassifierInput]) -> list[float]:
        import torch

        network = self.load()
        # Similar lengths together, because padding costs as much as text.
        order = sorted(range(len(inputs)), key=lambda i: sum(map(len, inputs[i])))
        scores = [0.0] * len(inputs)
        with torch.inference_mode():
            for at in range(0, len(order), BATCH):
                batch = order[at : at + BATCH]
                logits = network(*network.tokenize([inputs[i] for i in batch]))
                for i, score in zip(batch, logits.sigmoid().tolist(), strict=True):
                    scores[i] = score
        return scores


@lru_cache(maxsize=1)
def shipped_classifier() -> ScopeClassifier:
    """The classifier that comes with the package, the same one for the whole process."""
    return ScopeClassifier(SHIPPED)
