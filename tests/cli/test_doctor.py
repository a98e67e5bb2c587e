"""The command on real checkpoints: the bundled model and random ones on disk."""

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    LlamaConfig,
    LlamaForCausalLM,
    MixtralConfig,
)

from vllm_edit import factworld
from vllm_edit.cli import main
from vllm_edit.cli.doctor_output import duration, print_report, size
from weight_patchers.doctor.examination import examine
from weight_patchers.methods import METHODS

SMALL = {
    "vocab_size": json.loads((factworld.checkpoint() / "config.json").read_text())["vocab_size"],
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
}
QUICK = ("--samples", "2", "--most", "8")

Run = Callable[..., tuple[int, str]]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """A function that runs the command and gives its status and what it printed."""

    def doctor(*arguments: str | Path) -> tuple[int, str]:
        capsys.readouterr()
        status = main(["doctor", *map(str, arguments)])
        printed = capsys.readouterr()
        return status, printed.out + (printed.err if status == 2 else "")

    return doctor


@pytest.fixture(scope="session")
def random_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint that knows nothing, with the bundled tokenizer."""
    folder = tmp_path_factory.mktemp("random")
    torch.manual_seed(0)
    LlamaForCausalLM(LlamaConfig(**SMALL)).to(torch.bfloat16).save_pretrained(folder)
    AutoTokenizer.from_pretrained(factworld.checkpoint()).save_pretrained(folder)
    return folder


def test_the_bundled_model_is_found_editable_where_it_is_edited(run: Run) -> None:
    status, printed = run("--json", "--chat", *QUICK)
    report = json.loads(printed)
    assert status == 0
    assert report["usable"]
    assert report["structure"]["layers"] == 6
    assert report["structure"]["tied"]
    trace = report["trace"]
    assert (trace["given"], trace["traced"]) == (30, 8)
    assert trace["recalled"] >= 29
    assert trace["clean"] > 0.9 > 0.5 > trace["corrupted"]
    # Facts are at the subject in the early layers, and have reached the last token in the last.
    assert max(trace["mlp_at_subject"]) == max(trace["mlp_at_subject"][:3])
    assert max(trace["mlp_at_subject"][4:]) < 0.1
    assert trace["hidden_at_last"][0] < 0.1 < 0.4 < trace["hidden_at_last"][-1]
    methods = {method["name"]: method for method in report["methods"]}
    assert set(methods) == set(METHODS)
    assert {method["hyperparameters"] for method in methods.values()} == {"factworld"}
    (edited,) = methods["rome"]["layers"]
    assert edited in report["proposal"]["several"]
    assert {entry["layer"] for entry in report["statistics"]} >= {edited}
    assert all(entry["tokens"] >= 4480 for entry in report["statistics"])


def test_a_random_model_recalls_none_of_the_facts(run: Run, random_model: Path) -> None:
    arguments = (random_model, "--facts", "factworld", "--text", "factworld")
    status, printed = run(*arguments)
    assert status == 1
    assert "recalls none of the 30 facts" in " ".join(printed.split())
    assert "LlamaForCausalLM: 3 layers of width 32" in printed
    assert "in bfloat16 (examined in float32)" in printed
    assert "generic" in printed
    assert "Not usable as it is." in printed
    assert all(len(line) <= 100 for line in printed.splitlines())


def test_without_facts_and_text_the_rest_is_reported(run: Run, random_model: Path) -> None:
    status, printed = run(random_model)
    assert status == 0
    assert "[no_facts]" in printed
    assert "[no_text]" in printed
    assert "This model can be edited." in printed
    for name in METHODS:
        assert f"\n {name} " in printed


def test_facts_and_text_come_from_files(run: Run, random_model: Path, tmp_path: Path) -> None:
    facts, text = tmp_path / "facts.jsonl", tmp_path / "text.txt"
    fact = {"prompt": "Oslo is a city in", "subject": "Oslo", "answer": "Norway", "more": 1}
    facts.write_text(json.dumps(fact) + "\n\n")
    text.write_text("Too little.")
    status, printed = run(random_model, "--facts", facts, "--text", text, "--json")
    report = json.loads(printed)
    assert status == 1
    assert report["trace"]["given"] == 1
    codes = [finding["code"] for finding in report["findings"]]
    assert codes == ["recalls_none", "unusable_statistics"]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("{", "Line 1 of"),
        ('{"prompt": "Oslo is in", "subject": "Oslo"}', "'answer'"),
        ('{"prompt": "Oslo is in", "subject": "Lima", "answer": "a"}', "'Lima'"),
        ('{"prompt": "Oslo is in", "subject": 3, "answer": "a"}', "Line 1 of"),
        ("[]", "Line 1 of"),
    ],
)
def test_a_line_that_is_no_fact_is_named(
    run: Run, random_model: Path, tmp_path: Path, line: str, reason: str
) -> None:
    facts = tmp_path / "facts.jsonl"
    facts.write_text(line)
    status, printed = run(random_model, "--facts", facts)
    assert status == 2
    assert reason in printed


@pytest.mark.parametrize("flag", ["--samples", "--most"])
def test_a_count_below_one_is_refused(flag: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["doctor", flag, "0"])
    assert stopped.value.code == 2
    assert "must be 1 or more" in capsys.readouterr().err


def test_what_is_not_there_cannot_be_examined(run: Run, random_model: Path, tmp_path: Path) -> None:
    assert run(tmp_path / "nothing")[0] == 2
    assert run(tmp_path)[0] == 2
    assert run(random_model, "--facts", tmp_path / "nothing")[0] == 2
    assert run(random_model, "--text", tmp_path / "nothing")[0] == 2
    if not torch.cuda.is_available():
        assert run(random_model, "--device", "cuda")[0] == 2


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        (MixtralConfig(**SMALL), "mixture of experts"),
        (LlamaConfig(**SMALL, quantization_config={"quant_method": "gptq", "bits": 4}), "quant"),
    ],
    ids=["mixture", "quantised"],
)
def test_what_cannot_be_edited_is_refused_without_reading_weights(
    run: Run, tmp_path: Path, config: Any, reason: str
) -> None:
    config.save_pretrained(tmp_path)
    status, printed = run(tmp_path)
    assert status == 1
    assert reason in printed
    assert "Not usable as it is." in printed


def test_a_report_goes_to_a_file_as_plain_text(random_model: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(random_model)
    report = examine(model, AutoTokenizer.from_pretrained(random_model))
    file = io.StringIO()
    print_report(report, file)
    assert "\x1b" not in file.getvalue()
    assert "LlamaForCausalLM: 3 layers" in file.getvalue()


def test_numbers_are_short() -> None:
    assert [duration(s) for s in (0, 0.0123, 1, 90, 5400, 172800)] == [
        "-",
        "12 ms",
        "1 s",
        "1.5 min",
        "1.5 h",
        "2 d",
    ]
    assert [size(n) for n in (999, 1500, 2_000_000, 3 * 10**9, 4 * 10**12)] == [
        "999 B",
        "1.5 kB",
        "2 MB",
        "3 GB",
        "4 TB",
    ]
