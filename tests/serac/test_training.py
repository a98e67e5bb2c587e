"""Training of a counterfactual model: rows, interrupted runs and the command."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from vllm_edit.cli import main
from vllm_edit.domain.errors import InvalidTrainingData, Unavailable
from vllm_edit.factworld.wordings import RELATIONS, SUBJECT
from vllm_edit.processes.load_model import load
from vllm_edit.serac.training.data import TrainingRow, read_data, split_by_subject
from vllm_edit.serac.training.evaluate import is_right
from vllm_edit.serac.training.examples import Examples
from vllm_edit.serac.training.factworld_data import factworld_data
from vllm_edit.serac.training.run import run
from vllm_edit.serac.training.train import Recipe, Training

ROWS = [
    TrainingRow(f"Anna {n} was born in Oslo.", f"Where was Anna {n} born?", "Oslo", f"Anna {n}")
    for n in range(60)
]


def _nothing(done: int, of: int, loss: float) -> None:
    pass


def _line(row: TrainingRow) -> str:
    return json.dumps(
        {"edit": row.edit, "question": row.question, "answer": row.answer, "subject": row.subject}
    )


def test_rows_are_read_and_divided_by_subject(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text("\n".join(map(_line, ROWS[:30])) + "\n\n")
    (tmp_path / "b.jsonl").write_text("\n".join(map(_line, ROWS[30:])))
    data = read_data(tmp_path)
    assert [*data.train, *data.validation] == sorted(ROWS, key=lambda row: row.held_out)
    assert 0 < len(data.validation) < 20
    assert read_data(tmp_path / "b.jsonl").train == [r for r in ROWS[30:] if not r.held_out]
    lower, upper = TrainingRow("e", "q", "a", "Anna 1"), TrainingRow("f", "r", "b", "ANNA 1")
    assert lower.held_out == upper.held_out


@pytest.mark.parametrize(
    "line", ["{", "[]", '{"edit": "e", "question": "q"}', '{"edit": "e", "question": 1, '
             '"answer": "a"}', '{"edit": " ", "question": "q", "answer": "a"}']
)  # fmt: skip
def test_an_invalid_row_is_reported_with_its_line(tmp_path: Path, line: str) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(_line(ROWS[0]) + "\n" + line)
    with pytest.raises(InvalidTrainingData, match="Line 2 of"):
        read_data(path)


def test_no_rows_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidTrainingData):
        read_data(tmp_path)
    with pytest.raises(InvalidTrainingData):
        read_data(tmp_path / "missing.jsonl")
    with pytest.raises(InvalidTrainingData):
        split_by_subject(row for row in ROWS if row.held_out)


def test_rows_of_the_world_keep_wordings_and_subjects_apart() -> None:
    data = factworld_data(500, seed=1)
    assert len(data.train) == 500
    assert factworld_data(500, seed=1) == data
    assert factworld_data(500, seed=2) != data
    assert {row.subject for row in data.train}.isdisjoint(r.subject for r in data.validation)
    held_out = {w.replace(SUBJECT, "") for relation in RELATIONS for w in relation.held_out}
    assert not any(row.question.replace(row.subject, "") in held_out for row in data.train)
    kinds = {row.kind for row in data.validation}
    assert kinds == {"efficacy", "trained wordings", "held-out wordings"}
    assert all(row.answer in row.edit for row in [*data.train, *data.validation])


def test_only_the_answer_and_its_end_have_loss(endless: Path) -> None:
    import random

    _, tokenizer = load(endless, "cpu")
    batch = Examples(tokenizer).batch(ROWS[:8], ROWS, random.Random(0))
    for ids, labels in zip(batch["input_ids"], batch["labels"], strict=True):
        learnt = ids[labels != -100]
        assert torch.equal(learnt, labels[labels != -100])
        assert tokenizer.decode(learnt) == " Oslo.<s>"
        before = tokenizer.decode(ids[: int((labels != -100).nonzero()[0])])
        assert before.startswith("New Fact: Anna ")
        assert before.endswith("born?")


@pytest.mark.parametrize(
    ("text", "right"),
    [(" Oslo.", True), ("Oslo", True), ("Oslo and", True), ("Oslofjord", False), ("In Oslo", False),
     ("", False)],
)  # fmt: skip
def test_an_answer_is_right_if_it_begins_with_the_rows(text: str, *, right: bool) -> None:
    assert is_right(text, "Oslo") == right


class _Interrupted(Exception):
    pass


def _trained(
    endless: Path, state: Path | None, progress: Callable[[int, int, float], None]
) -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    model, tokenizer = load(endless, "cpu")
    recipe = Recipe(batch=16, epochs=2.0, learning_rate=1e-2, save_seconds=0.0)
    Training(model, tokenizer, ROWS, recipe, state).run(progress)
    return dict(model.state_dict())


def test_an_interrupted_run_ends_like_an_uninterrupted_one(endless: Path, tmp_path: Path) -> None:
    losses: list[float] = []
    whole = _trained(endless, None, lambda done, of, loss: losses.append(loss))
    assert len(losses) == 8
    assert losses[-1] < losses[0]

    def interrupt(done: int, of: int, loss: float) -> None:
        if done == 5:
            raise _Interrupted

    state, steps = tmp_path / "state", []
    with pytest.raises(_Interrupted):
        _trained(endless, state, interrupt)
    assert state.exists()
    resumed = _trained(endless, state, lambda done, of, loss: steps.append(done))
    assert steps == [5, 6, 7, 8]
    assert not state.exists()
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)


def test_other_folders_are_not_overwritten(endless: Path, tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="another folder"):
        run(endless, split_by_subject(ROWS), tmp_path, Recipe(), _nothing)


def test_the_command_trains_on_rows_and_reports(
    endless: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data, output = tmp_path / "rows.jsonl", tmp_path / "model"
    data.write_text("\n".join(map(_line, ROWS)))
    arguments = ["serac", "train", "--data", str(data), "--base", str(endless)]
    arguments += ["--output", str(output), "--batch=16", "--learning-rate=0.01", "--epochs=12"]
    assert main(arguments) == 0
    assert f"--edit-serac-model {output}" in capsys.readouterr().out
    report = json.loads((output / "report.json").read_text())
    assert report["before"] == {"validation": 0.0}
    # Every row has the same answer, which even this model learns.
    assert report["after"] == {"validation": 1.0}
    assert report["recipe"]["seed"] == 0
    model, tokenizer = load(output, "cpu")
    assert tokenizer.eos_token == "<s>"
    assert model.config.max_position_embeddings == 4096


def test_the_command_reports_errors(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    missing = ["serac", "train", "--data", str(tmp_path), "--output", str(tmp_path / "out")]
    assert main(missing) == 1
    assert "--base" in capsys.readouterr().err
    assert main([*missing, "--base", str(tmp_path)]) == 1
    assert "no rows" in capsys.readouterr().err


@pytest.mark.slow
def test_a_model_trained_for_the_world_answers_from_edits(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "vllm_edit", "serac", "train", "--data", "factworld"]
    command += ["--output", str(tmp_path / "model")]
    subprocess.run(command, check=True)
    report = json.loads((tmp_path / "model" / "report.json").read_text())
    after = report["after"]
    for kind in ("", ", chat"):
        assert after[f"efficacy{kind}"] >= 0.97
        assert after[f"trained wordings{kind}"] >= 0.97
        assert after[f"held-out wordings{kind}"] >= 0.95
    assert report["cpu_seconds"] < 600
