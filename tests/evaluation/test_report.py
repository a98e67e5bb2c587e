"""What is made of a stored result: means, tables, and a page that needs nothing else."""

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from vllm_edit.evaluation.plot import Axis, count_axis
from vllm_edit.evaluation.report import html, write_reports
from vllm_edit.evaluation.table import markdown


def row(result: dict[str, Any], *key: object) -> dict[str, Any]:
    names = ("method", "regime", "count", "moment")
    (found,) = [r for r in result["rows"] if tuple(r[name] for name in names) == key]
    return found


class _Page(HTMLParser):
    """Checks that what is opened is closed, and notes what would be loaded."""

    empty = frozenset({"meta", "line", "polyline", "rect", "circle", "path", "br"})

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[str] = []
        self.loaded: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append(tag)
        self.loaded += [name for name, _ in attrs if name in ("src", "href", "xlink:href")]
        if tag not in self.empty:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_pieces_of_one_kind_become_a_row_with_an_interval(result: dict[str, Any]) -> None:
    assert [r["method"] for r in result["rows"]] == ["unedited", *["ike"] * 4, *["rome"] * 4]
    alone = row(result, "ike", "single", 1, "at the end")
    assert alone["records"] == 2
    assert alone["metrics"]["reliability/generated"] == {
        "mean": 1.0, "low": 1.0, "high": 1.0, "records": 2,
    }  # fmt: skip
    assert alone["seconds_per_edit"] == 0.5
    together = row(result, "rome", "sequential", 2, "right after")
    told = together["metrics"]["locality/generated"]
    assert (told["low"], told["mean"], told["high"]) == (0.0, 0.5, 1.0)
    assert together["drift"] == 0.5


def test_a_result_is_json(result: dict[str, Any]) -> None:
    assert json.loads(json.dumps(result)) == result


def test_device_memory_is_told_where_there_is_some(result: dict[str, Any]) -> None:
    assert "evice memory" not in markdown(result)
    costs = {"ready_bytes": 2.0**30, "device_ready_bytes": 2.0**33, "device_peak_bytes": 2.0**34}
    told = markdown(result | {"costs": {"ike": costs}})
    assert "peak device memory GiB" in told
    assert "16.00" in told
    assert "Device memory is all" in told


def test_the_table_has_both_ways_of_matching_and_the_cost(result: dict[str, Any]) -> None:
    lines = markdown(result).splitlines()
    head = [cell.strip() for cell in lines[0].strip("|").split("|")]
    assert head == [
        "method", "data", "edits", "judged", "reliability", "generalization", "locality",
        "port. alias", "s/edit", "memory GiB",
    ]  # fmt: skip
    assert "| rome | factworld | batch 2 | 2 | 50.0 / 50.0 | 50.0 / 50.0 |" in "\n".join(lines)
    (single,) = [line for line in lines if line.startswith("| ike | factworld | single 1")]
    assert single.endswith("| 0.500 | 2.00 |")


def test_the_page_is_whole_and_loads_nothing(result: dict[str, Any]) -> None:
    page = _Page()
    page.feed(html(result))
    assert page.open == []
    assert page.loaded == []
    assert not {"script", "link", "img", "iframe"} & set(page.seen)
    assert page.seen.count("svg") >= 4 + 1 + 3
    assert "url(" not in html(result)


def test_what_a_model_says_is_text_on_the_page(result: dict[str, Any]) -> None:
    text = html(result)
    assert "said by rome &lt;&amp;&gt;" in text
    assert "<&>" not in text


def test_places_in_plots_are_numbers(result: dict[str, Any]) -> None:
    text = html(result)
    assert "nan" not in text
    places = re.findall(r'c[xy]="([^"]+)"', text)
    assert places
    assert all(-1 <= float(place) <= 400 for place in places)


def test_scales() -> None:
    assert count_axis("n", [1, 10, 100]).at(10, 0.0, 200.0) == pytest.approx(100.0)
    assert Axis("x", [], 0.0, 2.0).at(0.5, 100.0, 0.0) == pytest.approx(75.0)
    assert count_axis("n", [5]).at(5, 0.0, 200.0) == pytest.approx(100.0)


def test_all_files_are_written(result: dict[str, Any], tmp_path: Path) -> None:
    told = write_reports(result, tmp_path / "out")
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        "result.json", "table.md", "report.html",
    }  # fmt: skip
    assert (tmp_path / "out" / "table.md").read_text() in told
