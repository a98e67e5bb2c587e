"""The reports of a result: means, tables and a self-contained page."""

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from vllm_edit.evaluation.plot import Axis, Point, Series, chart
from vllm_edit.evaluation.report import html, write_reports
from vllm_edit.evaluation.table import markdown

RESULTS = Path(__file__).parents[2] / "benchmarks" / "results"


@pytest.fixture(scope="module")
def text(result: dict[str, Any]) -> str:
    return html(result)


def row(result: dict[str, Any], *key: object) -> dict[str, Any]:
    names = ("method", "regime", "count", "moment")
    (match,) = [r for r in result["rows"] if tuple(r[name] for name in names) == key]
    return match


class _Page(HTMLParser):
    """Checks that all tags are closed, and lists the loaded resources."""

    empty = frozenset({"meta", "line", "polyline", "rect", "circle", "path", "br"})

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[str] = []
        self.loaded: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append(tag)
        links = [value or "" for name, value in attrs if name in ("src", "href", "xlink:href")]
        # A fragment refers to the page itself.
        self.loaded += [link for link in links if not link.startswith("#")]
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
    locality = together["metrics"]["locality/generated"]
    assert (locality["low"], locality["mean"], locality["high"]) == (0.0, 0.5, 1.0)
    assert together["drift"] == 0.5


def test_a_result_is_json(result: dict[str, Any]) -> None:
    assert json.loads(json.dumps(result)) == result


def test_device_memory_is_in_the_tables_if_measured(result: dict[str, Any]) -> None:
    assert "evice memory" not in markdown(result)
    costs = {"ready_bytes": 2.0**30, "device_ready_bytes": 2.0**33, "device_peak_bytes": 2.0**34}
    tables = markdown(result | {"costs": {"ike": costs}})
    assert "peak device memory GiB" in tables
    assert "16.00" in tables
    assert "Device memory is all" in tables


def test_the_table_has_both_ways_of_matching_and_the_cost(result: dict[str, Any]) -> None:
    lines = markdown(result).splitlines()
    (first,) = [line for line in lines if "s/edit" in line and line.startswith("|")]
    head = [cell.strip() for cell in first.strip("|").split("|")]
    assert head == [
        "method", "data", "edits", "judged", "reliability", "generalization", "locality",
        "port. alias", "s/edit", "memory GiB",
    ]  # fmt: skip
    assert "| rome | factworld | batch 2 | 2 | 50.0 / 50.0 | 50.0 / 50.0 |" in "\n".join(lines)
    # What the unedited model keeps of its own answers stands beside what is kept.
    assert "| 50.0 / 50.0 (0.0 / 0.0) |" in "\n".join(lines)
    (single,) = [line for line in lines if line.startswith("| ike | factworld | single 1")]
    assert single.endswith("| 0.500 | 2.00 |")


def test_what_is_told_and_kept_has_a_table_of_its_own(result: dict[str, Any]) -> None:
    lines = markdown(result).splitlines()
    head = [cell.strip() for cell in lines[0].strip("|").split("|")]
    assert head == [
        "method", "edits", "judged", "told", "exact", "reworded told", "kept first word",
        "kept sentence",
    ]  # fmt: skip
    assert "| rome | batch 2 | 2 | 50.0 | 50.0 | 50.0 | 50.0 (0.0) | 50.0 (0.0) |" in lines
    assert (
        row(result, "rome", "batch", 2, "at the end")["metrics"][
            "locality.other_subjects/first_word"
        ]["floor"]
        == 0.0
    )


def test_a_sequence_is_shown_by_age_and_until_when_it_holds(
    result: dict[str, Any], text: str
) -> None:
    assert "| rome | sequential 2 | 1 to 1 | 100.0 |" in markdown(result)
    assert "| rome | sequential 2 | 2 to 2 | 0.0 |" in markdown(result)
    assert result["collapse"] == {"ike": 2, "rome": 2}
    assert "rome in a row: fewer than 90% told at 2 edits." in text


@pytest.mark.parametrize("name", ["evaluation-cpu.json", "evaluation-memory-cpu.json"])
def test_committed_results_can_be_read(name: str) -> None:
    stored = json.loads((RESULTS / name).read_text())
    assert "| ike | factworld |" in markdown(stored)
    assert "Quality and cost" in html(stored)


def test_the_page_is_well_formed_and_loads_nothing(text: str) -> None:
    page = _Page()
    page.feed(text)
    assert page.open == []
    assert page.loaded == []
    assert not {"script", "link", "img", "iframe"} & set(page.seen)
    assert page.seen.count("svg") >= 4 + 1 + 3
    assert "url(" not in text.replace("url(#", "")


def test_generated_text_is_escaped_on_the_page(text: str) -> None:
    assert "said by rome &lt;&amp;&gt;" in text
    assert "<&>" not in text


PLACE = re.compile(r'<use [^>]*x="([^"]+)" y="([^"]+)"')


def test_places_in_plots_are_numbers(text: str) -> None:
    assert "nan" not in text
    places = [float(number) for place in PLACE.findall(text) for number in place]
    assert places
    assert all(-1 <= place <= 400 for place in places)


def test_points_have_notes_and_the_same_data_give_the_same_page(
    text: str, result: dict[str, Any]
) -> None:
    assert "<title>rome: single 1 at the end, 100.0% of 2</title>" in text
    assert "locality 50.0%, portability 50.0%" in text
    assert html(result) == text


def drawn_at(x: Axis, places: list[float]) -> list[tuple[float, float]]:
    """The drawn positions of points at x = `places`, whose y values are 0, 0.25, 0.5 and so on."""
    points = [Point(place, at / 4, note="n") for at, place in enumerate(places)]
    svg = chart("t", x, Axis("y", "percent"), [Series("s", 0, "solid", points)])
    marks = re.findall(r"<title>s: n</title>.*?</g>\s*</g>", svg, re.DOTALL)
    return [(float(a), float(b)) for mark in marks for a, b in PLACE.findall(mark)]


def test_scales() -> None:
    first, second, third = drawn_at(Axis("n", "count", (1, 10, 100)), [1, 10, 100])
    assert second[0] == pytest.approx((first[0] + third[0]) / 2)
    assert second[1] == pytest.approx((first[1] + third[1]) / 2)
    assert first[1] > third[1]
    first, second, third = drawn_at(Axis("s", "value"), [0, 1, 4])
    assert second[0] - first[0] == pytest.approx((third[0] - first[0]) / 4, abs=1e-3)
    ((alone, _),) = drawn_at(Axis("n", "count", (5,)), [5])
    assert 150 < alone < 250


def test_all_files_are_written(result: dict[str, Any], tmp_path: Path) -> None:
    printed = write_reports(result, tmp_path / "out")
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        "result.json", "table.md", "report.html",
    }  # fmt: skip
    assert (tmp_path / "out" / "table.md").read_text() in printed
