from pathlib import Path

import pytest

from vllm_edit import factworld
from vllm_edit.editor.corpus import corpus_for
from vllm_edit.errors import Unavailable


def test_factworld_brings_its_own_text(tmp_path: Path) -> None:
    corpus = corpus_for(factworld.checkpoint(), None)
    assert corpus.name == "factworld"
    assert next(corpus.texts()) == next(factworld.corpus())


def test_another_model_needs_one_and_is_told_how(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="--edit-statistics-text FILE") as raised:
        corpus_for(tmp_path, None)
    assert raised.value.code == "no_statistics_text"


def test_paragraphs_of_a_file_come_one_by_one(tmp_path: Path) -> None:
    path = tmp_path / "text"
    path.write_text("one\nstill one\n\n \ntwo\n\n" + "three " * 2000)
    texts = list(corpus_for(tmp_path, path).texts())
    assert texts[:2] == ["one\nstill one", "two"]
    assert all(len(text) < 9000 for text in texts)
    assert "".join(texts[2:]).replace(" ", "") == "three" * 2000


def test_a_folder_is_read_file_by_file(tmp_path: Path) -> None:
    for name, content in (("b.txt", "two"), ("a.txt", "one"), ("c.bin", "no")):
        (tmp_path / name).write_text(content)
    assert list(corpus_for(tmp_path, tmp_path).texts()) == ["one", "two"]


def test_the_name_changes_with_the_content(tmp_path: Path) -> None:
    path = tmp_path / "text"
    path.write_text("one")
    first = corpus_for(tmp_path, path).name
    path.write_text("two")
    assert corpus_for(tmp_path, path).name != first


def test_text_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="cannot be read"):
        corpus_for(tmp_path, tmp_path / "missing")
    with pytest.raises(Unavailable, match=r"no \.txt file"):
        corpus_for(tmp_path, tmp_path)
