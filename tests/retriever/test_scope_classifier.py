"""The classifier that is shipped, and what is refused in its place."""

import json
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from retriever import EncoderUnavailableError, InvalidClassifierError, ScopeClassifier
from retriever.batching import Batched
from retriever.scope import shipped_classifier
from retriever.scope.files import SHIPPED, describe
from retriever.settings import DEFAULT_THRESHOLD

FACT = "The employer of [MASK] is"


@pytest.fixture
def copied(tmp_path: Path) -> Path:
    """A copy of the shipped classifier."""
    return Path(shutil.copytree(SHIPPED, tmp_path / "classifier"))


def change(folder: Path, **fields: object) -> None:
    path = folder / "classifier.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))


def test_it_is_small_and_says_what_it_is() -> None:
    assert sum(path.stat().st_size for path in SHIPPED.iterdir()) < 10e6
    assert {path.suffix for path in SHIPPED.iterdir()} == {".safetensors", ".json"}
    description = describe(SHIPPED)
    assert description.base == "sentence-transformers/all-MiniLM-L6-v2"
    assert description.threshold == DEFAULT_THRESHOLD
    assert description.report["validation"]["edits"] == 1000


def test_scores_are_probabilities_that_tell_relations_apart() -> None:
    scores = shipped_classifier().scores(
        [
            ("Who employs [MASK]?", FACT),
            ("Which company does [MASK] work for?", FACT),
            ("Where was [MASK] born?", FACT),
            ("Who is [MASK]? [SEP] And who employs her?", FACT),
            ("Who employs [MASK]? [SEP] And who employs Bob?", FACT),
        ]
    )
    assert all(0 <= score <= 1 for score in scores)
    assert [score >= DEFAULT_THRESHOLD for score in scores] == [True, True, False, True, False]


def test_half_precision_is_nearly_the_same() -> None:
    readings = [("Who employs [MASK]?", FACT), ("Where was [MASK] born?", FACT)]
    half = ScopeClassifier(SHIPPED, dtype="bfloat16").scores(readings)
    assert half == pytest.approx(shipped_classifier().scores(readings), abs=0.05)


def test_company_and_order_change_no_score() -> None:
    readings = [(f"Where does [MASK] {'really ' * n}work?", FACT) for n in range(5)]
    together = ScopeClassifier(SHIPPED).scores(readings)
    alone = [ScopeClassifier.scores(shipped_classifier(), [reading])[0] for reading in readings]
    assert alone == pytest.approx(together, abs=1e-4)
    assert shipped_classifier().scores(readings[::-1]) == alone[::-1]


def test_the_longest_request_is_cut() -> None:
    assert 0 <= shipped_classifier().scores([("[MASK] " * 3000, FACT)])[0] <= 1


@pytest.mark.parametrize(
    ("fields", "match"),
    [
        ({"fingerprint": "0" * 64}, "trained on other weights"),
        ({"sha256": "0" * 64}, "is not what its description says"),
        ({"rank": 8}, "other weights than its description"),
        ({"format": 2}, "train the classifier again"),
        ({"surprise": 1}, "cannot be read"),
    ],
)
def test_another_classifier_than_described_is_refused(
    copied: Path, fields: dict[str, object], match: str
) -> None:
    change(copied, **fields)
    with pytest.raises(InvalidClassifierError, match=match) as raised:
        ScopeClassifier(copied).scores([("a", "b")])
    assert raised.value.code == "invalid_classifier"


def test_damaged_files_are_refused(copied: Path) -> None:
    weights, description = copied / "classifier.safetensors", copied / "classifier.json"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    with pytest.raises(InvalidClassifierError, match="is not what"):
        ScopeClassifier(copied).load()
    weights.unlink()
    with pytest.raises(InvalidClassifierError, match="cannot be read"):
        ScopeClassifier(copied).load()
    description.write_text("{")
    with pytest.raises(InvalidClassifierError, match="cannot be read"):
        ScopeClassifier(copied).load()
    description.unlink()
    with pytest.raises(InvalidClassifierError, match="give the folder"):
        ScopeClassifier(copied).load()


def test_a_base_that_is_not_there_is_refused(copied: Path, tmp_path: Path) -> None:
    change(copied, base=str(tmp_path / "none"))
    with pytest.raises(EncoderUnavailableError, match="base model of the scope classifier"):
        ScopeClassifier(copied).load()


def test_weights_are_half_precision_and_only_what_was_trained() -> None:
    weights = load_file(SHIPPED / "classifier.safetensors")
    assert {weight.dtype for weight in weights.values()} == {torch.float16}
    assert not any(name.endswith("linear.weight") for name in weights)
    assert any(name.startswith("head.") for name in weights)
    assert save_file  # what is kept can be written by anybody's tools


def test_importing_it_does_not_import_torch() -> None:
    program = "import sys, retriever.scope; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


def test_calls_that_wait_are_answered_in_one_batch() -> None:
    batches: list[list[int]] = []
    entered, go_on = threading.Event(), threading.Event()

    def answer(keys: list[int]) -> list[int]:
        batches.append(keys)
        entered.set()
        go_on.wait(30)
        return [key * key for key in keys]

    batched: Batched[int, int] = Batched(answer, size=2)
    found: dict[int, list[int]] = {}
    threads = [
        threading.Thread(target=lambda n=n: found.update({n: batched.ask([n, 7])}))
        for n in range(6)
    ]
    threads[0].start()
    assert entered.wait(30)
    for thread in threads[1:]:
        thread.start()
    while len(batched._waiting) < 6:
        assert threads[1].is_alive()
    go_on.set()
    for thread in threads:
        thread.join(30)
    assert found == {n: [n * n, 49] for n in range(6)}
    assert [len(batch) for batch in batches] == [2, 6]
    assert len(batched) == 2


def test_a_failure_reaches_all_who_wait_and_is_not_kept() -> None:
    failures = [True, False]

    def answer(keys: list[str]) -> list[str]:
        if failures.pop(0):
            raise InvalidClassifierError("broken")
        return keys

    batched: Batched[str, str] = Batched(answer, size=8)
    with pytest.raises(InvalidClassifierError):
        batched.ask(["a"])
    assert batched.ask(["a", "b", "a"]) == ["a", "b", "a"]
