import math
import random
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from weight_patchers import Statistics, statistics
from weight_patchers.errors import UnusableStatistics
from weight_patchers.model.layers import projection
from weight_patchers.statistics.texts import Source

BuildModel = Callable[..., PreTrainedModel]
Collect = Callable[..., Statistics]
TEXTS = ["Anna Berg was born in Oslo and works for Novatech.", "The capital of Peru is Lima."] * 20


@pytest.fixture
def collected(tokenizer: PreTrainedTokenizerFast) -> Collect:
    """A function that collects statistics of layers 1 and 2, 500 tokens."""

    def collect(model: PreTrainedModel) -> Statistics:
        return statistics.collect(
            model,
            tokenizer,
            (f"{i} {line} {i * 31 % 97}" for i in range(100) for line in TEXTS[:2]),
            layers=[1, 2],
            fingerprint="0" * 64,
            source="lines",
            tokens=500,
        )

    return collect


def _keys(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, layer: int, texts: list[str]
) -> torch.Tensor:
    """Keys of one text after the other, float64 [tokens, d_in]."""
    keys: list[torch.Tensor] = []
    module = projection(model, layer).module
    handle = module.register_forward_pre_hook(
        lambda _, args: keys.append(args[0].detach().reshape(-1, args[0].shape[-1]).double())
    )
    for text in texts:
        model(**tokenizer(text, return_tensors="pt"))
    handle.remove()
    return torch.cat(keys)


@pytest.mark.parametrize("family", ["llama", "gpt2", "opt"])
def test_moments_equal_a_direct_computation(
    build_model: BuildModel, tokenizer: PreTrainedTokenizerFast, family: str
) -> None:
    model = build_model(family).eval()
    result = statistics.collect(
        model, tokenizer, TEXTS, layers=[0, 2], fingerprint="f", source="texts", tokens=10**6
    )
    for layer in (0, 2):
        keys = _keys(model, tokenizer, layer, TEXTS)
        assert result.count == len(keys)
        expected = keys.T @ keys / len(keys)
        assert torch.allclose(result.moments[layer].double(), expected, rtol=1e-4, atol=1e-5)


def test_the_sample_is_exactly_as_large_as_wanted(
    build_model: BuildModel, tokenizer: PreTrainedTokenizerFast
) -> None:
    drawn = 0

    def endless() -> Iterator[str]:
        nonlocal drawn
        while True:
            drawn += 1
            yield TEXTS[drawn % 2]

    seen: list[tuple[int, int]] = []
    result = statistics.collect(
        build_model("llama"),
        tokenizer,
        endless(),
        layers=[1],
        fingerprint="f",
        source="endless",
        progress=lambda done, of: seen.append((done, of)),
    )
    assert result.count == 480
    assert not result.whole
    assert drawn < 50
    assert (seen[0], seen[-1]) == ((0, 480), (480, 480))
    assert len(seen) > 16


def test_too_little_text_is_refused(
    build_model: BuildModel, tokenizer: PreTrainedTokenizerFast
) -> None:
    model = build_model("llama")
    for texts, tokens in ((["Anna"], None), (TEXTS, 40)):
        with pytest.raises(UnusableStatistics, match="48 dimensions: give at least 480 tokens"):
            statistics.collect(
                model,
                tokenizer,
                texts,
                layers=[1],
                fingerprint="f",
                source="texts",
                tokens=tokens,
            )


def test_long_texts_are_cut_not_lost(
    build_model: BuildModel, tokenizer: PreTrainedTokenizerFast
) -> None:
    text = " ".join(TEXTS)
    result = statistics.collect(
        build_model("opt"),
        tokenizer,
        [text],
        layers=[1],
        fingerprint="f",
        source="texts",
        tokens=10**6,
    )
    length = len(tokenizer(text)["input_ids"])
    assert length > 128
    # Every row of at most 128 begins with the token that the tokenizer puts in front.
    assert result.count == length + math.ceil((length - 128) / 127)
    assert result.whole


def test_the_error_foretells_the_distance_to_a_larger_sample(
    build_model: BuildModel, tokenizer: PreTrainedTokenizerFast
) -> None:
    words = " ".join(TEXTS[:2]).split()
    rng = random.Random(0)
    texts = [" ".join(rng.choices(words, k=8)) for _ in range(3000)]
    small, large = (
        statistics.collect(
            build_model("llama"),
            tokenizer,
            texts,
            layers=[1, 2],
            fingerprint="f",
            source="words",
            tokens=tokens,
        )
        for tokens in (1000, 16000)
    )
    for layer, error in small.errors.items():
        distance = float((small.moments[layer] - large.moments[layer]).norm())
        # The larger sample has an error of its own, and holds the smaller one.
        expected = error * (1 - 1000 / 16000) ** 0.5
        assert distance / float(large.moments[layer].norm()) == pytest.approx(expected, rel=0.5)
        assert large.errors[layer] == pytest.approx(error / 4, rel=0.5)


def test_stored_statistics_are_found_by_everything_that_identifies_them(
    tmp_path: Path, build_model: BuildModel, collected: Collect
) -> None:
    result = collected(build_model("llama"))
    result.save(tmp_path)
    (name,) = (path.name for path in tmp_path.glob("*layer1*"))
    assert name == f"{result.fingerprint[:16]}-layer1-lines-500-float32.safetensors"
    key = (result.fingerprint, [1], "lines", "float32")
    loaded = statistics.load(tmp_path, *key, count=500)
    assert loaded is not None
    assert torch.equal(loaded.moments[1], result.moments[1])
    assert (loaded.count, loaded.errors[1]) == (500, result.errors[1])
    assert statistics.load(tmp_path, *key, count=501) is None
    assert statistics.load(tmp_path, result.fingerprint, [0], "lines", "float32", 1) is None
    assert statistics.load(tmp_path, "e" * 64, [1], "lines", "float32", 1) is None
    assert statistics.load(tmp_path, result.fingerprint, [1], "lines", "bfloat16", 1) is None
    assert statistics.load(tmp_path, result.fingerprint, [1], "line", "float32", 1) is None


def test_the_largest_stored_sample_is_taken(
    tmp_path: Path, build_model: BuildModel, collected: Collect
) -> None:
    result = collected(build_model("llama"))
    for count in (600, 9000, 1000):
        replace(result, count=count).save(tmp_path)
    replace(result, count=20000, source="lines-2").save(tmp_path)
    replace(result, count=30000, source="a/b: c").save(tmp_path)
    # As files were once named, without a count.
    (tmp_path / f"{result.fingerprint[:16]}-layer1-lines-float32.safetensors").touch()

    def largest(source: str | None, layers: tuple[int, ...] = (1, 2)) -> int:
        loaded = statistics.load(tmp_path, result.fingerprint, layers, source, "float32", 700)
        assert loaded is not None
        return loaded.count

    assert largest("lines") == 9000
    assert largest("lines-2") == 20000
    assert largest("a/b: c") == 30000
    assert largest(None) == 30000
    for path in tmp_path.glob("*layer2-a-b*"):
        path.unlink()
    # Layers are never mixed from several texts.
    assert largest(None) == 20000
    assert largest(None, (1,)) == 30000


def test_a_whole_text_is_as_much_as_there_is(
    tmp_path: Path, build_model: BuildModel, collected: Collect
) -> None:
    replace(collected(build_model("llama")), whole=True).save(tmp_path)
    loaded = statistics.load(tmp_path, "0" * 64, [1], "lines", "float32", 10**9)
    assert loaded is not None
    assert (loaded.count, loaded.whole) == (500, True)


def test_only_layers_that_lack_statistics_are_collected(
    tmp_path: Path, build_model: BuildModel, tokenizer: PreTrainedTokenizerFast
) -> None:
    opened: list[str] = []
    source = Source("lines", lambda: iter([*TEXTS, opened.append("text") or ""]))

    def obtain(*layers: int) -> Statistics:
        return statistics.obtain(
            build_model("llama"),
            tokenizer,
            source,
            layers=layers,
            fingerprint="f",
            folder=tmp_path,
            tokens=300,
        )

    assert set(obtain(0).moments) == {0}
    before = [path.stat().st_mtime_ns for path in tmp_path.iterdir()]
    assert set(obtain(0, 2).moments) == {0, 2}
    assert set(obtain(2, 0).moments) == {0, 2}
    assert len(opened) == 2
    assert len(list(tmp_path.iterdir())) == 2
    assert before == [path.stat().st_mtime_ns for path in tmp_path.glob("*layer0*")]


def test_a_damaged_file_is_refused(
    tmp_path: Path, build_model: BuildModel, collected: Collect
) -> None:
    result = collected(build_model("llama"))
    result.save(tmp_path)
    (path,) = tmp_path.glob("*layer1*")
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(UnusableStatistics, match="delete it"):
        statistics.load(tmp_path, result.fingerprint, [1], "lines", "float32", 1)


def test_a_file_of_another_model_is_refused(
    tmp_path: Path, build_model: BuildModel, collected: Collect
) -> None:
    result = replace(collected(build_model("llama")), fingerprint="0" * 16 + "1" * 48)
    result.save(tmp_path)
    with pytest.raises(UnusableStatistics, match="another model"):
        statistics.load(tmp_path, "0" * 64, [1], "lines", "float32", 1)


def test_a_folder_that_takes_no_files_is_named(
    tmp_path: Path, build_model: BuildModel, collected: Collect
) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UnusableStatistics, match="cannot be written"):
        collected(build_model("llama")).save(tmp_path / "file")


def test_a_layer_without_statistics_is_named(build_model: BuildModel, collected: Collect) -> None:
    result = collected(build_model("llama"))
    for ask in (result.factor, result.moment):
        with pytest.raises(UnusableStatistics, match=r"layer 0 \(there are: 1, 2\)"):
            ask(0)


INTERRUPTED = """
import sys
from pathlib import Path
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer
from weight_patchers import statistics

torch.set_num_threads(1)
model = AutoModelForCausalLM.from_pretrained(sys.argv[1])
tokenizer = AutoTokenizer.from_pretrained(sys.argv[1])

def texts():
    for number in range(400):
        if number == 200:
            print("stuck", flush=True)
            sys.stdin.read()
        yield f"{number} The capital of Peru is Lima. {number * 31 % 97}"

statistics.collect(
    model, tokenizer, texts(), layers=[0, 2], fingerprint="f", source="lines", tokens=4000,
    folder=Path(sys.argv[2]), seconds=0.0,
)
"""


def test_a_killed_collection_goes_on_where_it_stopped(
    tmp_path: Path, build_model: BuildModel, tokenizer: PreTrainedTokenizerFast
) -> None:
    model, folder = build_model("llama"), tmp_path / "statistics"
    model.save_pretrained(tmp_path / "model")
    tokenizer.save_pretrained(tmp_path / "model")
    command = [sys.executable, "-c", INTERRUPTED, str(tmp_path / "model"), str(folder)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"stuck\n"
        process.kill()
    (kept,) = folder.iterdir()
    assert kept.suffix == ".partial"

    def collect(folder: Path | None) -> tuple[Statistics, list[int]]:
        done: list[int] = []
        result = statistics.collect(
            model,
            tokenizer,
            (f"{n} The capital of Peru is Lima. {n * 31 % 97}" for n in range(400)),
            layers=[0, 2],
            fingerprint="f",
            source="lines",
            tokens=4000,
            progress=lambda count, _: done.append(count),
            folder=folder,
        )
        return result, done

    (resumed, went_on), (straight, all_of_it) = collect(folder), collect(None)
    assert 0 < went_on[0] < 4000
    assert went_on == all_of_it[-len(went_on) :]
    assert straight.count == resumed.count == 4000
    assert straight.errors == resumed.errors
    for layer in (0, 2):
        assert torch.equal(straight.moments[layer], resumed.moments[layer])
    assert [path.suffix for path in folder.iterdir()] == [".safetensors"] * 2


class Broken(Exception):
    pass


def _break_off(texts: list[str]) -> Iterator[str]:
    yield from texts
    raise Broken


def test_sums_of_another_sample_are_not_taken_up(
    tmp_path: Path, build_model: BuildModel, tokenizer: PreTrainedTokenizerFast
) -> None:
    def first_progress(model: PreTrainedModel | None = None, **changes: object) -> int:
        done: list[int] = []
        arguments: dict[str, object] = {"layers": [1], "fingerprint": "f", "source": "lines"}
        with pytest.raises(Broken):
            statistics.collect(
                model or build_model("llama"),
                tokenizer,
                _break_off(TEXTS),
                **({"tokens": 1000} | arguments | changes),
                progress=lambda count, _: done.append(count),
                folder=tmp_path,
                seconds=0.0,
            )
        return done[0]

    assert first_progress() == 0
    taken_up = first_progress()
    assert taken_up > 0
    for changes in ({"fingerprint": "g"}, {"source": "other"}, {"tokens": 999}, {"layers": [2]}):
        assert first_progress(**changes) == 0
    assert first_progress(build_model("llama", torch.bfloat16)) == 0
    assert first_progress() >= taken_up


def test_damaged_sums_are_made_anew(
    tmp_path: Path, build_model: BuildModel, tokenizer: PreTrainedTokenizerFast
) -> None:
    model = build_model("llama")

    def collect(texts: Iterator[str]) -> list[int]:
        done: list[int] = []
        statistics.collect(
            model,
            tokenizer,
            texts,
            layers=[1],
            fingerprint="f",
            source="lines",
            progress=lambda count, _: done.append(count),
            folder=tmp_path,
            seconds=0.0,
        )
        return done

    with pytest.raises(Broken):
        collect(_break_off(TEXTS[:10]))
    (kept,) = tmp_path.iterdir()
    kept.write_bytes(kept.read_bytes()[:-1])
    assert collect(iter(TEXTS))[0] == 0
    assert not list(tmp_path.glob("*.partial"))


def test_what_a_killed_save_left_is_removed(
    tmp_path: Path, build_model: BuildModel, collected: Collect
) -> None:
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    result = collected(build_model("llama"))
    result.save(tmp_path)
    (path,) = tmp_path.glob("*layer1*")
    left, busy = (path.with_name(f"{path.name}.{pid}.tmp") for pid in (gone.pid, 1))
    left.touch()
    busy.touch()
    result.save(tmp_path)
    assert not left.exists()
    assert busy.exists()
