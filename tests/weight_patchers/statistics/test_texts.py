"""Text from files, folders and datasets."""

import gzip
import json
import re
import sys
from pathlib import Path

import pytest

from weight_patchers.errors import UnreadableText
from weight_patchers.statistics.texts import from_dataset, open_source


def _jsonl(path: Path, rows: list[object]) -> Path:
    path.write_text("\n".join(json.dumps(row) for row in rows))
    return path


def test_paragraphs_of_a_file_come_one_by_one(tmp_path: Path) -> None:
    path = tmp_path / "text"
    path.write_text("one\nstill one\n\n \ntwo\n\n" + "three " * 2000)
    source = open_source(path)
    texts = list(source.texts())
    assert texts[:2] == ["one\nstill one", "two"]
    assert all(len(text) < 9000 for text in texts)
    assert "".join(texts[2:]).replace(" ", "") == "three" * 2000
    assert list(source.texts()) == texts


def test_lines_of_records_give_their_text_whole(tmp_path: Path) -> None:
    rows: list[object] = [{"text": "one\n\nstill one", "id": 1}, {"text": " "}, {"text": None}]
    path = _jsonl(tmp_path / "a.jsonl", [*rows, {"text": "two"}])
    path.write_text(path.read_text() + "\n\n")
    assert list(open_source(path).texts()) == ["one\n\nstill one", "two"]


def test_another_field_can_be_named(tmp_path: Path) -> None:
    path = _jsonl(tmp_path / "a.jsonl", [{"body": "one", "text": "other"}])
    assert list(open_source(path, "body").texts()) == ["one"]
    assert open_source(path, "body").name != open_source(path).name


@pytest.mark.parametrize(
    ("line", "match"),
    [
        ("{", "line 2 of .* is not JSON"),
        ('{"body": "x", "id": 1}', r"line 2 of .* has no 'text' \(it has body, id\)"),
        ("[]", r"has no 'text' \(it has no fields\)"),
        ('{"text": 7}', "has a int as 'text'"),
    ],
)
def test_a_record_without_text_is_refused(tmp_path: Path, line: str, match: str) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"text": "one"}\n' + line)
    texts = open_source(path).texts()
    assert next(texts) == "one"
    with pytest.raises(UnreadableText, match=match):
        next(texts)


def test_a_folder_is_read_file_by_file(tmp_path: Path) -> None:
    for name, content in (("b.txt", "two"), ("a.md", "one"), ("c.bin", "no"), (".git", "no")):
        (tmp_path / name).write_text(content)
    (tmp_path / "d").mkdir()
    _jsonl(tmp_path / "d" / "a.jsonl", [{"text": "three"}])
    assert list(open_source(tmp_path).texts()) == ["one", "two", "three"]


def test_the_name_changes_with_the_content_only(tmp_path: Path) -> None:
    path, copy = tmp_path / "text", tmp_path / "copy"
    path.write_text("one")
    copy.write_text("one")
    first = open_source(path).name
    assert open_source(copy).name == first
    copy.rename(tmp_path / "copy.jsonl")
    assert open_source(tmp_path / "copy.jsonl").name != first
    path.write_text("two")
    assert open_source(path).name != first


def test_text_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UnreadableText, match="no such file or folder"):
        open_source(tmp_path / "missing")
    with pytest.raises(UnreadableText, match=r"holds no \.txt, \.md, \.jsonl file"):
        open_source(tmp_path)


def test_without_the_library_a_dataset_is_refused_with_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "datasets", None)
    for name in ("corpus.txt", "owner/name", "owner/name:20231101.en", "name:config:train"):
        with pytest.raises(UnreadableText, match=r"pip install 'vllm-edit\[datasets\]'"):
            open_source(name)


@pytest.fixture
def dataset(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A dataset of two configs, laid out as on the hub, in a folder."""
    monkeypatch.setenv("HF_HOME", str(tmp_path / "home"))
    pytest.importorskip("datasets")
    folder = tmp_path / "facts"
    for config in ("en", "de"):
        (folder / config).mkdir(parents=True)
        for split in ("train", "test"):
            rows: list[object] = [{"id": n, "text": f"{config} {split} {n}"} for n in range(3)]
            _jsonl(folder / config / f"{split}.jsonl", [*rows, {"id": 3, "text": ""}])
    (folder / "README.md").write_text(
        "---\nconfigs:\n- config_name: en\n  data_dir: en\n- config_name: de\n  data_dir: de\n---\n"
    )
    return folder


def test_rows_of_a_dataset_are_streamed(dataset: Path) -> None:
    source = from_dataset(str(dataset), "de", "test")
    assert list(source.texts()) == ["de test 0", "de test 1", "de test 2"]
    assert list(source.texts()) == ["de test 0", "de test 1", "de test 2"]


def test_a_dataset_is_named_by_all_that_selects_its_rows(dataset: Path) -> None:
    def names() -> set[str]:
        chosen = [("de", "test", "text"), ("en", "test", "text"), ("de", "train", "text")]
        chosen.append(("de", "test", "id"))
        return {from_dataset(str(dataset), *one).name for one in chosen}

    before = names()
    assert len(before) == 4
    assert all(name.replace("-", "").replace("_", "").isalnum() for name in before)
    assert names() == before


def test_a_dataset_that_cannot_be_read_is_refused(dataset: Path) -> None:
    with pytest.raises(UnreadableText, match=r"cannot be read: .*en"):
        from_dataset(str(dataset), "fr", "train")
    with pytest.raises(UnreadableText, match="Bad split"):
        from_dataset(str(dataset), "de", "validation")
    with pytest.raises(UnreadableText, match="has no 'body'"):
        list(from_dataset(str(dataset), "de", "train", "body").texts())
    with pytest.raises(UnreadableText, match="cannot be read"):
        from_dataset(str(dataset / "nothing"), None, "train")


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("text.txt.gz", gzip.compress(b"some text", mtime=0)),
        ("text.txt", "some text".encode("utf-16")),
        ("text.txt", "some text".encode("utf-16-le")),
        ("text.txt", "caf\u00e9".encode("latin-1")),
        ("text.txt", b"cut off \xe2\x82"),
        ("text.bin", bytes(range(256))),
        ("rows.jsonl", b'{"text": "caf\xe9"}\n'),
        ("rows.json", b'[{"text": "some text"}]'),
    ],
)
def test_what_is_no_text_in_utf_8_is_refused_at_once(
    tmp_path: Path, name: str, content: bytes
) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(UnreadableText, match=re.escape(name)):
        open_source(path)


def test_a_byte_order_mark_is_no_text(tmp_path: Path) -> None:
    path = tmp_path / "text.txt"
    path.write_text("one two", encoding="utf-8-sig")
    assert [*open_source(path).texts()] == ["one two"]
