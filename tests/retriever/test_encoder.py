import subprocess
import sys
import threading

import numpy as np
import pytest

from retriever import EncoderUnavailableError, SentenceEncoder


def test_vectors_are_unit_float32(encoder: SentenceEncoder) -> None:
    vectors = encoder.encode(["Where does Ada work?", "The employer of Ada is", "Bananas"])
    assert vectors.dtype == np.float32
    assert vectors.shape == (3, 384)
    assert np.linalg.norm(vectors, axis=1) == pytest.approx(np.ones(3), abs=1e-5)
    assert vectors[0] @ vectors[1] > vectors[0] @ vectors[2]


def test_the_cache_changes_nothing_and_is_bounded() -> None:
    encoder = SentenceEncoder(cache_size=2)
    first = encoder.encode(["a", "b", "c"])
    assert encoder.encode(["c", "a", "b"]) == pytest.approx(first[[2, 0, 1]], abs=1e-6)
    assert encoder.encode(["b", "b"]) == pytest.approx(first[[1, 1]], abs=1e-6)
    assert len(encoder._vectors) == 2


def test_concurrent_calls_get_their_own_vectors(encoder: SentenceEncoder) -> None:
    texts = [[f"question {i}", f"question {i + 1}"] for i in range(12)]
    found: dict[int, np.ndarray] = {}
    threads = [
        threading.Thread(target=lambda i=i: found.update({i: encoder.encode(texts[i])}))
        for i in range(len(texts))
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    for i, pair in enumerate(texts):
        assert found[i] == pytest.approx(encoder.encode(pair), abs=1e-5)


def test_half_precision_is_nearly_the_same(encoder: SentenceEncoder) -> None:
    half = SentenceEncoder(dtype="bfloat16")
    texts = ["Where does Ada work?", "The employer of Ada is", "Bananas"]
    vectors = half.encode(texts)
    assert vectors.dtype == np.float32
    assert np.linalg.norm(vectors, axis=1) == pytest.approx(np.ones(3), abs=1e-5)
    assert (vectors * encoder.encode(texts)).sum(1) == pytest.approx(np.ones(3), abs=0.01)
    # What is kept of one is of no use to the other.
    assert half.fingerprint() != encoder.fingerprint()


def test_a_missing_model_says_what_to_do(tmp_path_factory: pytest.TempPathFactory) -> None:
    encoder = SentenceEncoder(str(tmp_path_factory.mktemp("empty")))
    for _ in range(2):
        with pytest.raises(EncoderUnavailableError, match="give the folder"):
            encoder.encode(["a"])


def test_importing_the_package_does_not_import_torch() -> None:
    program = "import sys, retriever; sys.exit('torch' in sys.modules or 'vllm' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
