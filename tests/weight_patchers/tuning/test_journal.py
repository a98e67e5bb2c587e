"""The journal of a search survives a killed process, and belongs to one search."""

from pathlib import Path

import pytest

from weight_patchers.errors import UnreadableText
from weight_patchers.tuning.journal import Journal

HEAD = {"seed": 0, "layers": (1, 2)}


def test_what_was_found_is_found_again(tmp_path: Path) -> None:
    path = tmp_path / "folder" / "journal.jsonl"
    first = Journal(path, HEAD)
    assert first.get("a") is None
    first.add("a", {"method": "rome", "took": 2.0, "layers": (1, 2)})
    first.add("b", {"method": "rome", "took": 0.5})
    first.add("told", [1, 2])
    for journal in (first, Journal(path, HEAD)):
        assert journal.get("a")["layers"] == [1, 2]
        assert journal.seconds("rome") == 2.5
        assert journal.seconds("memit") == 0


def test_a_line_that_was_cut_is_dropped(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    Journal(path, HEAD).add("a", 1)
    with path.open("a") as file:
        file.write('{"key": "b", "val')
    journal = Journal(path, HEAD)
    assert (journal.get("a"), journal.get("b")) == (1, None)
    journal.add("c", 3)
    assert Journal(path, HEAD).get("c") == 3


def test_the_journal_of_another_search_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    Journal(path, HEAD)
    with pytest.raises(UnreadableText, match="another model, facts, text or seed"):
        Journal(path, {**HEAD, "seed": 1})
    path.write_text("nothing\n")
    with pytest.raises(UnreadableText, match="no findings"):
        Journal(path, HEAD)
