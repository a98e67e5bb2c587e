"""Vectors kept on disk: a restart does not encode again, whatever has happened to the file."""

import logging
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from retriever import Fact, Retriever, SentenceEncoder
from retriever.encoder import Vectors
from retriever.stored_encoder import StoredEncoder

TEXTS = [f"The employer of clerk number {number} is" for number in range(40)]
RECORD = 16 + 8 + 2 * 384


class Counting:
    """The real encoder, and what it was asked for."""

    def __init__(self, encoder: SentenceEncoder, fingerprint: str | None = None) -> None:
        self._encoder = encoder
        self._fingerprint = fingerprint
        self.texts: list[str] = []

    def encode(self, texts: list[str]) -> Vectors:
        self.texts += texts
        return self._encoder.encode(texts)

    def fingerprint(self) -> str:
        return self._fingerprint or self._encoder.fingerprint()


def restart(encoder: SentenceEncoder, folder: Path) -> tuple[Counting, StoredEncoder]:
    counting = Counting(encoder)
    return counting, StoredEncoder(counting, folder)


def the_file(folder: Path) -> Path:
    (found,) = folder.iterdir()
    return found


@pytest.fixture
def kept(encoder: SentenceEncoder, tmp_path: Path) -> Vectors:
    return StoredEncoder(encoder, tmp_path).encode(TEXTS)


def test_a_restart_encodes_nothing_and_finds_the_same(
    encoder: SentenceEncoder, tmp_path: Path, kept: Vectors
) -> None:
    counting, stored = restart(encoder, tmp_path)
    assert np.array_equal(stored.encode(TEXTS[::-1]), kept[::-1])
    assert counting.texts == []
    assert kept == pytest.approx(encoder.encode(TEXTS), abs=1e-3)
    assert kept.dtype == np.float32


def test_only_what_is_new_is_encoded(
    encoder: SentenceEncoder, tmp_path: Path, kept: Vectors
) -> None:
    for number in range(3):
        counting, stored = restart(encoder, tmp_path)
        new = f"The capital of land {number} is"
        assert np.array_equal(stored.encode([TEXTS[3], new, new, TEXTS[3]])[[0, 3]], kept[[3, 3]])
        stored.encode([new, TEXTS[5]])
        assert counting.texts == [new]


def test_the_fingerprint_is_of_the_model_and_not_of_its_use(encoder: SentenceEncoder) -> None:
    other = SentenceEncoder()
    before = other.fingerprint()
    other.encode(["a", "a longer text of several words"])
    assert before == other.fingerprint() == encoder.fingerprint()
    other._fingerprint = None
    assert other.fingerprint() == before


def test_texts_of_another_encoder_are_encoded_again(
    encoder: SentenceEncoder, tmp_path: Path, kept: Vectors
) -> None:
    other = Counting(encoder, "f" * 64)
    StoredEncoder(other, tmp_path).encode(TEXTS)
    assert other.texts == TEXTS
    counting, stored = restart(encoder, tmp_path)
    stored.encode(TEXTS)
    assert counting.texts == []


def flip(data: bytearray) -> None:
    data[5 * RECORD + 100] ^= 1


def foreign(data: bytearray) -> None:
    for at in range(len(TEXTS)):
        data[at * RECORD + 16] ^= 1


def torn(data: bytearray) -> None:
    del data[7 * RECORD + 11 :]


def shifted(data: bytearray) -> None:
    del data[: 2 * RECORD - 5]


@pytest.mark.parametrize(
    ("damage", "lost"),
    [
        (flip, [5]),
        (foreign, range(40)),
        (torn, range(7, 40)),
        (shifted, range(40)),
        (bytearray.clear, range(40)),
    ],
)
def test_what_is_damaged_is_encoded_again(
    encoder: SentenceEncoder,
    tmp_path: Path,
    kept: Vectors,
    caplog: pytest.LogCaptureFixture,
    damage: Callable[[bytearray], None],
    lost: list[int],
) -> None:
    data = bytearray(the_file(tmp_path).read_bytes())
    damage(data)
    the_file(tmp_path).write_bytes(data)
    counting, stored = restart(encoder, tmp_path)
    with caplog.at_level(logging.WARNING):
        assert np.array_equal(stored.encode(TEXTS), kept)
    assert counting.texts == [TEXTS[at] for at in lost]
    assert ("damaged" in caplog.text) == (damage in (flip, foreign, shifted))
    caplog.clear()
    counting, stored = restart(encoder, tmp_path)
    with caplog.at_level(logging.WARNING):
        assert np.array_equal(stored.encode(TEXTS), kept)
    assert counting.texts == []
    assert caplog.text == ""


def test_a_file_that_goes_away_is_made_anew(
    encoder: SentenceEncoder, tmp_path: Path, kept: Vectors
) -> None:
    counting, stored = restart(encoder, tmp_path)
    stored.encode(TEXTS[:1])
    the_file(tmp_path).unlink()
    assert np.array_equal(stored.encode(TEXTS), kept)
    assert counting.texts == TEXTS
    counting, stored = restart(encoder, tmp_path)
    stored.encode(TEXTS)
    assert counting.texts == []


def test_without_a_place_to_keep_them_vectors_are_encoded(
    encoder: SentenceEncoder, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    place = tmp_path / "file"
    place.touch()
    stored = StoredEncoder(encoder, place)
    assert stored.encode(TEXTS) == pytest.approx(encoder.encode(TEXTS), abs=1e-3)
    assert "not kept for the next start" in caplog.text


def test_several_share_a_folder(encoder: SentenceEncoder, tmp_path: Path) -> None:
    """Servers on one store, and threads of each: what is kept is right and all of it is there."""
    expected = encoder.encode(TEXTS)
    servers = [StoredEncoder(encoder, tmp_path) for _ in range(3)]
    wrong: list[int] = []

    def work(worker: int) -> None:
        for at in range(40):
            text = (at * 7 + worker * 13) % 40
            found = servers[worker % 3].encode([TEXTS[text]])[0]
            if np.abs(found - expected[text]).max() > 1e-3:
                wrong.append(text)

    threads = [threading.Thread(target=work, args=(worker,)) for worker in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert wrong == []
    counting, stored = restart(encoder, tmp_path)
    assert stored.encode(TEXTS) == pytest.approx(expected, abs=1e-3)
    assert counting.texts == []


def facts(count: int, wordings: int) -> list[Fact]:
    found = []
    for number in range(count):
        subject = f"Clerk {number}"
        prompt = f"In office {number % wordings}, the superior of {subject} is"
        found.append(Fact(str(number), subject, prompt, f"Clerk {number + 1}"))
    return found


@pytest.mark.slow
@pytest.mark.parametrize("wordings", [200, 10_000], ids=["few", "distinct"])
def test_a_restart_with_ten_thousand_facts_is_quick_and_routes_the_same(
    encoder: SentenceEncoder, tmp_path: Path, wordings: int
) -> None:
    edits = facts(10_000, wordings)
    first = Retriever(StoredEncoder(encoder, tmp_path))
    first.add_many(edits)
    counting, stored = restart(encoder, tmp_path)
    second = Retriever(stored)
    begun = time.monotonic()
    second.add_many(edits)
    taken = time.monotonic() - begun
    assert counting.texts == []
    assert taken < 20
    for number in range(0, 10_000, 401):
        question = f"Who is the superior of Clerk {number}?"
        assert first.route(question) == second.route(question)
