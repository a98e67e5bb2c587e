"""``vllm-edit tune`` on the bundled model, with next to no budget."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoConfig

from retriever import load_prompt_forms
from vllm_edit import factworld
from vllm_edit.cli import main
from vllm_edit.weights.hyperparameters import read_hyperparameters
from weight_patchers.hyperparameters import find
from weight_patchers.methods import METHODS
from weight_patchers.tuning.result_files import BEFORE

SMALL = ("--budget", "0.05", "--edits", "4", "--neighbours", "2")


def run(*arguments: object) -> int:
    return main(["tune", *SMALL, *map(str, arguments)])


def trials(output: Path) -> list[dict[str, Any]]:
    lines = (output / "journal.jsonl").read_text().splitlines()
    values = [json.loads(line).get("value") for line in lines]
    return [value for value in values if isinstance(value, dict)]


@pytest.fixture(scope="module")
def tuned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("tuning")
    assert run("--methods", "rome,memit", "--output", output) == 0
    return output


def test_settings_are_found_that_tell_the_edits(tuned: Path) -> None:
    table = (tuned / "table.md").read_text()
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in table.splitlines()[2:]]
    made = [(row[1], row[2], row[3], row[-1]) for row in rows]
    for method, ways in (("rome", ["single"]), ("memit", ["single", "batch"])):
        assert [
            way for name, way, _, settings in made if (name, settings) == (method, BEFORE)
        ] == ways
        best = [row for row in rows if row[1] == method and row[0] == "*"]
        assert max(float(row[4]) for row in best) >= 0.75
        assert all(float(row[7]) >= 0.75 for row in best)
    assert all(count == "4" for _, _, count, _ in made)


def test_what_was_found_is_read_by_find_and_by_the_server(tuned: Path) -> None:
    config = AutoConfig.from_pretrained(factworld.checkpoint())
    server = read_hyperparameters(tuned / "hparams.yaml", factworld.checkpoint())
    assert set(server) == {"rome", "memit"}
    best = {}
    for trial in trials(tuned):
        best.setdefault(trial["method"], []).append(trial["settings"])
    for method, values in server.items():
        kind = METHODS[method].hparams
        found = find(kind, method, config, tuned / "hparams")
        assert json.loads(json.dumps(vars(found))) == values
        assert values in best[method]
        (path,) = (tuned / "hparams" / method).glob("*.yaml")
        assert "# single, 4 edits: told " in path.read_text()
    assert find(METHODS["pmet"].hparams, "pmet", config, tuned / "hparams") == find(
        METHODS["pmet"].hparams, "pmet", config
    )


def test_the_picture_is_written(tuned: Path) -> None:
    assert (tuned / "front.png").read_bytes().startswith(b"\x89PNG")


def test_a_finished_search_is_not_made_again(
    tuned: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = (tuned / "journal.jsonl").read_bytes()
    assert run("--methods", "rome,memit", "--output", tuned) == 0
    assert (tuned / "journal.jsonl").read_bytes() == before
    assert capsys.readouterr().out.startswith((tuned / "table.md").read_text())


@pytest.mark.slow
def test_a_killed_search_goes_on_where_it_was(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "vllm_edit", "tune", *SMALL, "--methods", "rome"]
    command += ["--from-scratch", "--output", os.fspath(tmp_path)]
    journal = tmp_path / "journal.jsonl"
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        while process.poll() is None:
            if journal.exists() and journal.read_text().count("\n") >= 3:
                process.kill()
    assert process.returncode != 0
    before = journal.read_text()
    assert run("--methods", "rome", "--from-scratch", "--output", tmp_path) == 0
    assert BEFORE not in (tmp_path / "table.md").read_text()
    after = journal.read_text()
    whole = before[: before.rindex("\n") + 1]
    assert after.startswith(whole)
    keys = [json.loads(line).get("key") for line in after.splitlines()]
    assert len(keys) == len(set(keys)) > whole.count("\n")


def test_facts_of_another_world_are_not_enough(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    facts = tmp_path / "facts.jsonl"
    line = {"prompt": "The capital of Peru is", "subject": "Peru", "answer": "Lima"}
    facts.write_text(json.dumps(line))
    assert run("--facts", facts, "--output", tmp_path) == 1
    assert "the model tells 0" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (("--methods", "serac"), "no weight method serac"),
        (("--edits", "1"), "judged at least 4"),
        (("--facts", "nowhere.jsonl"), "nowhere.jsonl cannot be read"),
    ],
)
def test_wrong_arguments_are_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], reason: str
) -> None:
    assert run("--output", tmp_path, *arguments) == 1
    assert reason in capsys.readouterr().err


def test_the_form_of_prompts_is_chosen_by_answers(tmp_path: Path) -> None:
    assert main(["tune", "--methods", "ike", "--edits", "4", "--output", str(tmp_path)]) == 0
    forms = load_prompt_forms(tmp_path / "prompt-form.yaml")
    assert forms.text.shown
