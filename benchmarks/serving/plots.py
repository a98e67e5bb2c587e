"""The plots of a serving report."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from benchmarks.serving.summary import (
    CLOSED,
    OPEN,
    THROUGHPUT,
    TTFT,
    at_rate,
    rates,
    ratio,
)
from benchmarks.spread import Spread
from vllm_edit.evaluation.plot import Axis, Point, Series, chart, legend, stack

Result = Mapping[str, Any]

_STYLES: Mapping[str, Literal["solid", "dashed"]] = {"p50": "solid", "p99": "dashed"}
_SCOPED = (0, 10, 100)
SCOPE_LEGEND = legend([f"{scoped} % in scope" for scoped in _SCOPED])
_EVENTS = 200
"""The maximum number of swaps that are marked in one timeline."""


def by_rate(result: Result) -> list[str]:
    """TTFT and ITL, median and 99th percentile, against the request rate."""
    charts = []
    for name, metric in (("TTFT, ms", "ttft"), ("ITL, ms", "itl")):
        for percentile, style in _STYLES.items():
            series = _rate_series(result, f"{percentile}_{metric}_ms", style)
            if values := sorted({int(p.x) for s in series for p in s.points}):
                x = Axis("requests per second", "count", values)
                y = Axis("milliseconds", "value")
                charts.append(chart(f"{name}, {percentile}", x, y, series))
    return charts


def rate_legend(result: Result) -> str:
    """The colours of the arms that are measured at several rates."""
    return legend(_swept(result))


def by_edits(result: Result) -> list[str]:
    """Throughput and TTFT as ratios to plain vLLM, against the number of edits in memory."""
    x = Axis("edits in memory", "count", sorted({arm["in_memory"] for arm in _memories(result)}))
    charts = []
    for title, loop, key in (
        ("Output throughput, ratio to plain vLLM", CLOSED, THROUGHPUT),
        ("Median TTFT, ratio to plain vLLM", OPEN, TTFT),
    ):
        series = [
            Series(f"{scoped} % in scope", colour, "solid", points)
            for colour, scoped in enumerate(_SCOPED)
            if (points := _memory_points(result, scoped, loop, key))
        ]
        if series:
            charts.append(chart(title, x, Axis("ratio", "value"), series))
    return charts


def timelines(result: Result) -> list[str]:
    """Storms of the first round in closed loop: tokens per second and gaps, swaps marked."""
    charts = []
    for record in result["records"]:
        line = record["edit_timeline"]
        if line is None or record["edit_round"] or record["edit_loop"] != CLOSED:
            continue
        window, swaps = line["window_seconds"], line["swaps"][:_EVENTS]
        for key, what in (
            ("tokens_per_second", "tokens per second"),
            ("longest_gap_ms", "gap, ms"),
        ):
            points = [Point(at * window, value) for at, value in enumerate(line[key])]
            title = f"{record['edit_arm']}: {what}"
            axes = Axis("seconds", "value"), Axis(what, "value")
            charts.append(chart(title, *axes, [Series(what, 0, "solid", points)], swaps))
    return charts


def profiles(result: Result) -> list[str]:
    """One bar for each profile, divided into its parts."""
    return [
        stack(title, [(row["part"], row["ms"], f"{row['ms']:.2f} ms") for row in rows])
        for title, rows in result["profile"].items()
    ]


def _swept(result: Result) -> list[str]:
    return [arm["name"] for arm in result["arms"] if arm["swept"]]


def _rate_series(result: Result, key: str, style: Literal["solid", "dashed"]) -> list[Series]:
    all_series = []
    for colour, name in enumerate(_swept(result)):
        values = [
            (r, at_rate(result["records"], name, r, key)) for r in rates(result["records"], name)
        ]
        points = [_point(rate, spread, "per second") for rate, spread in values if spread]
        if points:
            all_series.append(Series(name, colour, style, points))
    return all_series


def _memory_points(result: Result, scoped: int, loop: str, key: str) -> Sequence[Point]:
    points = []
    for arm in _memories(result):
        spread = ratio(result["records"], arm["name"], loop, key)
        if spread and arm["scoped"] == scoped:
            points.append(_point(arm["in_memory"], spread, "edits"))
    return points


def _memories(result: Result) -> list[Mapping[str, Any]]:
    return [arm for arm in result["arms"] if arm["name"].startswith("memory-")]


def _point(x: float, spread: Spread, unit: str) -> Point:
    note = f"{x:g} {unit}: {spread.median:.3g} ({spread.low:.3g} to {spread.high:.3g})"
    return Point(x, spread.median, spread.low, spread.high, note)
