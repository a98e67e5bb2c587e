"""The plots of an evaluation report."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

from vllm_edit.evaluation.cells import ResultRow, edits, gibibytes
from vllm_edit.evaluation.judging import (
    GENERALIZATION,
    LOCALITY_GROUP,
    PORTABILITY_GROUP,
    RELIABILITY,
)
from vllm_edit.evaluation.plan import AFTER, SEQUENTIAL
from vllm_edit.evaluation.plot import Axis, Point, Series, bars, chart, legend
from vllm_edit.evaluation.probe_scores import BEGINS, FIRST_WORD, GENERATED

QUALITIES = (RELIABILITY, GENERALIZATION, LOCALITY_GROUP, PORTABILITY_GROUP)


def quality_plots(result: Mapping[str, Any]) -> list[str]:
    """Each quality against the number of edits in effect."""
    rows = [row for row in result["rows"] if row["count"]]
    counts = sorted({int(row["count"]) for row in rows})
    x, y = Axis("edits in effect", "count", counts), Axis("generated", "percent")
    return [
        chart(f"{name.capitalize()}, %", x, y, series)
        for name in QUALITIES
        if (series := _series(result, rows, f"{name}/{GENERATED}"))
    ]


def told_plots(result: Mapping[str, Any]) -> list[str]:
    """What is told against what neighbours keep of their first word."""
    names = (f"{RELIABILITY}/{BEGINS}", f"{LOCALITY_GROUP}/{FIRST_WORD}")
    return _against(result, names, ("told", "kept first word"))


def age_plots(result: Mapping[str, Any]) -> list[str]:
    """What is told at the end of the longest sequence of each method, by the number of an edit."""
    longest = {row["method"]: row for row in result["rows"] if row.get("by_age")}
    series = [
        Series(
            method,
            _colour(result, method),
            "dashed",
            [
                Point(part["last"], part["told"], note=f"up to {part['last']}, {part['told']:.1%}")
                for part in row["by_age"]
            ],
        )
        for method, row in longest.items()
    ]
    if not series:
        return []
    axes = Axis("edit, the oldest first", "value"), Axis("told at the end", "percent")
    return [chart("Told at the end, by age, %", *axes, series)]


def trade_off_plots(result: Mapping[str, Any]) -> list[str]:
    """Locality against portability."""
    names = tuple(f"{group}/{GENERATED}" for group in (LOCALITY_GROUP, PORTABILITY_GROUP))
    return _against(result, names, ("locality", "portability"))


def _against(result: Mapping[str, Any], names: Sequence[str], titles: tuple[str, str]) -> list[str]:
    series = []
    for row in result["rows"]:
        scores = [row["metrics"].get(name) for name in names]
        if row["count"] and all(scores):
            x, y = (score["mean"] for score in scores)
            note = f"{edits(row)}, {titles[0]} {x:.1%}, {titles[1]} {y:.1%}"
            colour = _colour(result, row["method"])
            series.append(Series(row["method"], colour, _style(row), [Point(x, y, note=note)]))
    if not series:
        return []
    axes = Axis(titles[0], "percent"), Axis(titles[1], "percent")
    return [chart(f"{titles[0].capitalize()} against {titles[1]}, %", *axes, series)]


def cost_plots(result: Mapping[str, Any]) -> list[str]:
    """Seconds per edit, seconds of preparation and peak memory, by method."""
    seconds, preparation, memory = [], [], []
    for method, costs in result["costs"].items():
        colour = _colour(result, method)
        per_edit = [r["seconds_per_edit"] for r in result["rows"] if r["method"] == method]
        if per_edit and per_edit[0] is not None:
            seconds.append((method, per_edit[0], f"{per_edit[0]:.3f}", colour))
        if (value := costs.get("preparation_seconds")) is not None:
            preparation.append((method, value, f"{value:.2f}", colour))
        if (value := costs.get("peak_bytes")) is not None:
            memory.append((method, value, gibibytes(value), colour))
    plots = {"Seconds per edit": seconds, "Preparation, s": preparation, "Memory, GiB": memory}
    return [bars(title, values) for title, values in plots.items() if values]


def method_legend(result: Mapping[str, Any]) -> str:
    """The colours of methods and the shapes of regimes."""
    return legend(
        result["plan"]["methods"],
        "● single and batch",
        "■ sequential, at the end",
        "▲ sequential, right after each edit",
    )


def _series(result: Mapping[str, Any], rows: Iterable[ResultRow], metric: str) -> list[Series]:
    groups: dict[tuple[str, Style], list[ResultRow]] = {}
    for row in rows:
        if metric in row["metrics"]:
            groups.setdefault((row["method"], _style(row)), []).append(row)
    return [
        Series(method, _colour(result, method), style, _points(group, metric))
        for (method, style), group in groups.items()
    ]


def _points(rows: Sequence[ResultRow], metric: str) -> list[Point]:
    points = []
    for row in sorted(rows, key=lambda row: (row["count"], row["regime"])):
        score = row["metrics"][metric]
        note = f"{edits(row)} {row['moment']}, {score['mean']:.1%} of {score['records']}"
        points.append(Point(row["count"], score["mean"], score["low"], score["high"], note))
    return points


Style = Literal["solid", "dashed", "dotted"]


def _style(row: ResultRow) -> Style:
    if row["regime"] != SEQUENTIAL:
        return "solid"
    return "dotted" if row["moment"] == AFTER else "dashed"


def _colour(result: Mapping[str, Any], method: str) -> int:
    methods: list[str] = result["plan"]["methods"]
    return methods.index(method)
