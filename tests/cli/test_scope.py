"""``vllm-edit scope`` from a folder of data to a classifier and its reports."""

import json
from itertools import islice
from pathlib import Path

import pytest

from retriever.scope_training.pair import side_of
from vllm_edit.cli import main
from vllm_edit.cli.scope import other_worlds, world_pairs

WORDINGS = ["Who is the mayor of {}?", "Who leads the city of {}?", "Where is {}?", "Is {} big?"]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A folder with the edits of somebody about forty towns."""
    folder = tmp_path / "data"
    folder.mkdir()
    lines = [
        {"prompt": f"The mayor of Town{n} is", "subject": f"Town{n}", "target": "Kim"}
        | {"request": wording.format(f"Town{n}"), "in_scope": number < 2}
        for n in range(40)
        for number, wording in enumerate(WORDINGS)
    ]
    (folder / "own.jsonl").write_text("\n".join(map(json.dumps, lines)))
    return folder


def test_train_then_evaluate(
    tmp_path: Path, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output, told = tmp_path / "classifier", tmp_path / "told.json"
    common = ["--data", str(data), "--no-world"]
    train = ["scope", "train", *common, "--output", str(output), "--epochs=0.05", "--rank=4"]
    assert main(train) == 0
    threshold = json.loads((output / "classifier.json").read_text())["threshold"]
    assert f"--edit-scope-threshold {threshold}" in capsys.readouterr().out
    assert json.loads((output / "report.json").read_text())["validation"]["threshold"] == threshold
    evaluate = ["scope", "evaluate", *common, "--classifier", str(output), "--sizes=10,20"]
    assert main([*evaluate, "--output", str(told)]) == 0
    assert "20 edits in memory" in capsys.readouterr().out
    assert [report["edits"] for report in json.loads(told.read_text())] == [10, 20]


def test_a_folder_without_data_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["scope", "evaluate", "--data", str(tmp_path)]) == 1
    assert "no file in a schema" in capsys.readouterr().err


def test_sizes_have_to_be_numbers(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["scope", "evaluate", "--data", ".", "--sizes=many"])
    assert "is no list such as" in capsys.readouterr().err


def test_other_worlds_are_about_nobody_in_the_bundled_one() -> None:
    made = [*islice(other_worlds(), 3000)]
    assert len(set(made)) == len(made)
    assert all(edit.subject in edit.prompt for edit in made)
    assert not {edit.subject for edit in made} & {pair.edit.subject for pair in world_pairs()}


def test_the_world_holds_wordings_out() -> None:
    pairs = world_pairs()
    assert pairs == world_pairs()
    assert len({pair.edit.subject for pair in pairs}) == len({pair.edit for pair in pairs})
    assert {pair.kind for pair in pairs} == {"in_scope", "hard", "multi_hop"}

    def asked(train: bool) -> set[str]:
        return {
            pair.request.replace(pair.edit.subject, "{s}")
            for pair in pairs
            if pair.kind != "multi_hop" and (side_of(pair.edit.subject) == "train") == train
        }

    assert not asked(train=True) & asked(train=False)
