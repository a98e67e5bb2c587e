from pathlib import Path

import pytest

from tests.editor.statistics_files import written
from vllm_edit import factworld
from vllm_edit.cli import main
from vllm_edit.domain.errors import Unavailable
from vllm_edit.editor.corpus import corpus_for
from vllm_edit.editor.workbench import Options, Workbench


def test_factworld_brings_its_own_text() -> None:
    corpus = corpus_for(factworld.checkpoint(), None)
    assert corpus.name.startswith("factworld-")
    assert corpus_for(factworld.checkpoint(), None).name == corpus.name
    assert next(corpus.texts()) == next(factworld.corpus())


def test_a_named_text_goes_before_it(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("one")
    assert list(corpus_for(factworld.checkpoint(), tmp_path / "text").texts()) == ["one"]


def test_another_model_needs_one_and_is_told_how(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="--edit-statistics-text FILE") as raised:
        corpus_for(tmp_path, None)
    assert raised.value.code == "no_statistics_text"


def test_statistics_made_before_the_server_do_without_the_text(
    model: Path, text: Path, tmp_path: Path
) -> None:
    options = Options(model, tmp_path / "statistics")
    wanted = {"rome": {"layer": 2}, "memit": {"layers": [1, 2]}}
    with pytest.raises(Unavailable, match="vllm-edit stats"):
        Workbench(options).prepare(wanted)
    command = ["stats", str(model), "--text", str(text), "--layers", "1,2", "--output"]
    assert main([*command, str(options.statistics)]) == 0
    stored = written(options.statistics)
    Workbench(options).prepare(wanted)
    assert stored
    assert written(options.statistics) == stored
