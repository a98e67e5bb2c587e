"""The time that the retriever's models take, on `/metrics`."""

from collections.abc import Sequence

from prometheus_client import Counter, Histogram

from retriever import Classifier, Encoder
from retriever.encoder import Vectors

_BUCKETS = (0.0001, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)

ENCODING = Histogram(
    "vllm_edit_encoder_seconds", "Time of a call of the sentence encoder", buckets=_BUCKETS
)
ROUTING_FAILURES = Counter(
    "vllm_edit_routing_failures",
    "Requests for which it went wrong to see which memory edits concern them",
)
CLASSIFYING = Histogram(
    "vllm_edit_classifier_seconds", "Time of a call of the scope classifier", buckets=_BUCKETS
)


class TimedEncoder:
    """An encoder whose calls are timed."""

    def __init__(self, encoder: Encoder) -> None:
        self._encoder = encoder

    def encode(self, texts: list[str]) -> Vectors:
        """See `Encoder.encode`."""
        with ENCODING.time():
            return self._encoder.encode(texts)


class TimedClassifier:
    """A scope classifier whose calls are timed."""

    def __init__(self, classifier: Classifier) -> None:
        self._classifier = classifier

    def scores(self, readings: Sequence[tuple[str, str]]) -> list[float]:
        """See `Classifier.scores`."""
        with CLASSIFYING.time():
            return self._classifier.scores(readings)
