"""Which plots a result has."""

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any

from vllm_edit.evaluation.judging import (
    GENERALIZATION,
    GENERATED,
    LOCALITY_GROUP,
    PORTABILITY_GROUP,
    RELIABILITY,
)
from vllm_edit.evaluation.plan import AFTER, SEQUENTIAL
from vllm_edit.evaluation.plot import (
    COLOURS,
    Point,
    Series,
    bars,
    chart,
    count_axis,
    percent_axis,
)
from vllm_edit.evaluation.table import edits, gibibytes

QUALITIES = (RELIABILITY, GENERALIZATION, LOCALITY_GROUP, PORTABILITY_GROUP)

Row = Mapping[str, Any]


def quality(result: Mapping[str, Any]) -> list[str]:
    """Each quality against the number of edits in effect."""
    rows = [row for row in result["rows"] if row["count"]]
    counts = sorted({int(row["count"]) for row in rows})
    if not counts:
        return []
    x = count_axis("edits in effect", counts)
    found = []
    for name in QUALITIES:
        series = _series(result, rows, f"{name}/{GENERATED}")
        if series:
            found.append(chart(f"{name.capitalize()}, %", x, percent_axis("generated"), series))
    return found


def trade(result: Mapping[str, Any]) -> list[str]:
    """What stays as it was against what follows from the edit."""
    names = [f"{group}/{GENERATED}" for group in (LOCALITY_GROUP, PORTABILITY_GROUP)]
    series = []
    for row in result["rows"]:
        told = [row["metrics"].get(name) for name in names]
        if row["count"] and all(told):
            x, y = (one["mean"] for one in told)
            note = f"{edits(row)}, locality {x:.1%}, portability {y:.1%}"
            colour = _colour(result, row["method"])
            point = Point(x, y, note=note)
            series.append(Series(row["method"], colour, _style(row), [point]))
    if not series:
        return []
    title = "Locality against portability, %"
    return [chart(title, percent_axis("locality"), percent_axis("portability"), series)]


def cost(result: Mapping[str, Any]) -> list[str]:
    """Seconds an edit, seconds of preparation and peak memory, by method."""
    seconds, preparing, memory = [], [], []
    for method, costs in result["costs"].items():
        colour = _colour(result, method)
        taken = [r["seconds_per_edit"] for r in result["rows"] if r["method"] == method]
        if taken and taken[0] is not None:
            seconds.append((method, taken[0], f"{taken[0]:.3f}", colour))
        if (value := costs.get("preparation_seconds")) is not None:
            preparing.append((method, value, f"{value:.2f}", colour))
        if (value := costs.get("peak_bytes")) is not None:
            memory.append((method, value, gibibytes(value), colour))
    titled = (("Seconds an edit", seconds), ("Preparation, s", preparing), ("Memory, GiB", memory))
    return [bars(title, values) for title, values in titled if values]


def legend(result: Mapping[str, Any]) -> str:
    """The colours of methods and the shapes of regimes."""
    methods = [
        f'<span><svg viewBox="0 0 12 12"><g class="dot c{_colour(result, method) % COLOURS}">'
        f'<circle cx="6" cy="6" r="5"/></g></svg>{escape(method)}</span>'
        for method in result["plan"]["methods"]
    ]
    shapes = (
        "● single and batch",
        "■ sequential, at the end",
        "▲ sequential, right after each edit",
    )
    return "".join([*methods, *(f"<span>{shape}</span>" for shape in shapes)])


def _series(result: Mapping[str, Any], rows: Iterable[Row], metric: str) -> list[Series]:
    grouped: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        if metric in row["metrics"]:
            grouped.setdefault((row["method"], _style(row)), []).append(row)
    return [
        Series(method, _colour(result, method), style, _points(found, metric))
        for (method, style), found in grouped.items()
    ]


def _points(rows: Sequence[Row], metric: str) -> list[Point]:
    ordered = sorted(rows, key=lambda row: (row["count"], row["regime"]))
    found = []
    for row in ordered:
        told = row["metrics"][metric]
        note = f"{edits(row)} {row['moment']}, {told['mean']:.1%} of {told['records']}"
        found.append(Point(row["count"], told["mean"], told["low"], told["high"], note))
    return found


def _style(row: Row) -> str:
    if row["regime"] != SEQUENTIAL:
        return "solid"
    return "dotted" if row["moment"] == AFTER else "dashed"


def _colour(result: Mapping[str, Any], method: str) -> int:
    methods: list[str] = result["plan"]["methods"]
    return methods.index(method)
