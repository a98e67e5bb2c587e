"""Which plots a result has."""

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from benchmarks.serving.summary import (
    CLOSED,
    OPEN,
    THROUGHPUT,
    TTFT,
    Spread,
    at_rate,
    rates,
    ratio,
)
from vllm_edit.evaluation.plot import Point, Series, chart, count_axis, stack, value_axis

Result = Mapping[str, Any]

_STYLES = {"p50": "solid", "p99": "dashed"}
_EVENTS = 200
"""Most swaps that are marked in one timeline."""


def by_rate(result: Result) -> list[str]:
    """TTFT and ITL, median and 99th percentile, against the request rate."""
    found = []
    for name, metric in (("TTFT, ms", "ttft"), ("ITL, ms", "itl")):
        for percentile, style in _STYLES.items():
            series = _rate_series(result, f"{percentile}_{metric}_ms", style)
            values = [p.x for s in series for p in s.points]
            if values:
                highest = [p.high or p.y for s in series for p in s.points]
                x = count_axis("requests a second", sorted(set(map(int, values))))
                title = f"{name}, {percentile}"
                found.append(chart(title, x, value_axis("milliseconds", highest), series))
    return found


def legend(result: Result) -> str:
    """The colours of the arms that are asked at several rates."""
    return "".join(
        f'<span><svg viewBox="0 0 12 12"><g class="dot c{colour}"><circle cx="6" cy="6" r="5"/>'
        f"</g></svg>{escape(name)}</span>"
        for colour, name in enumerate(_swept(result))
    )


def by_edits(result: Result) -> list[str]:
    """Throughput and TTFT as ratios to plain vLLM, against the number of edits in memory."""
    sizes = sorted({arm["in_memory"] for arm in _memories(result)})
    found = []
    for title, loop, key in (
        ("Output throughput, ratio to plain vLLM", CLOSED, THROUGHPUT),
        ("Median TTFT, ratio to plain vLLM", OPEN, TTFT),
    ):
        series = [
            Series(f"{scoped} % in scope", colour, "solid", points)
            for colour, scoped in enumerate((0, 10, 100))
            if (points := _memory_points(result, scoped, loop, key))
        ]
        if series and sizes:
            highest = [1.0, *(p.high or p.y for s in series for p in s.points)]
            y = value_axis("ratio", highest)
            found.append(chart(title, count_axis("edits in memory", sizes), y, series))
    return found


def timelines(result: Result) -> list[str]:
    """Storms of the first round in closed loop: tokens a second and gaps, with swaps marked."""
    found = []
    for record in result["records"]:
        line = record["edit_timeline"]
        if line is None or record["edit_round"] or record["edit_loop"] != CLOSED:
            continue
        window, swaps = line["window_seconds"], line["swaps"][:_EVENTS]
        for key, what in (("tokens_per_second", "tokens a second"), ("longest_gap_ms", "gap, ms")):
            values = line[key]
            points = [Point(at * window, value) for at, value in enumerate(values)]
            x = value_axis("seconds", [len(values) * window])
            title = f"{record['edit_arm']}: {what}"
            series = [Series(what, 0, "none" if len(points) < 2 else "solid", points)]
            found.append(chart(title, x, value_axis(what, values), series, swaps))
    return found


def profiles(result: Result) -> list[str]:
    """One bar for each profile, its parts side by side."""
    return [
        stack(title, [(row["part"], row["ms"], f"{row['ms']:.2f} ms") for row in rows])
        for title, rows in result["profile"].items()
    ]


def _swept(result: Result) -> list[str]:
    return [arm["name"] for arm in result["arms"] if arm["swept"]]


def _rate_series(result: Result, key: str, style: str) -> list[Series]:
    found = []
    for colour, name in enumerate(_swept(result)):
        told = [
            (r, at_rate(result["records"], name, r, key)) for r in rates(result["records"], name)
        ]
        points = [_point(rate, figure, "a second") for rate, figure in told if figure]
        found.append(Series(name, colour, style, points))
    return found


def _memory_points(result: Result, scoped: int, loop: str, key: str) -> Sequence[Point]:
    found = []
    for arm in _memories(result):
        figure = ratio(result["records"], arm["name"], loop, key)
        if figure and arm["scoped"] == scoped:
            found.append(_point(arm["in_memory"], figure, "edits"))
    return found


def _memories(result: Result) -> list[Mapping[str, Any]]:
    return [arm for arm in result["arms"] if arm["name"].startswith("memory-")]


def _point(x: float, figure: Spread, unit: str) -> Point:
    note = f"{x:g} {unit}: {figure.median:.3g} ({figure.low:.3g} to {figure.high:.3g})"
    return Point(x, figure.median, figure.low, figure.high, note)
