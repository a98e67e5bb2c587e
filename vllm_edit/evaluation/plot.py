"""Plots as inline SVG, whose colours the page's style sheet gives."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape

WIDTH, HEIGHT = 380, 270
LEFT, RIGHT, TOP, BOTTOM = 46, 14, 30, 42
COLOURS = 8
"""That many classes, c0 to c7, colour series."""
_TICKS = 6
"""Most steps of an axis."""

Mark = Callable[[float, float], str]


@dataclass(frozen=True)
class Point:
    """`low` and `high` bound `y`; `note` is shown where the pointer rests."""

    x: float
    y: float
    low: float | None = None
    high: float | None = None
    note: str = ""


@dataclass(frozen=True)
class Series:
    """Points joined in their order; `style` is solid, dashed, dotted or none."""

    name: str
    colour: int
    style: str
    points: Sequence[Point]


@dataclass(frozen=True)
class Axis:
    """A scale from `low` to `high` with its ticks, over `start` to `end` on the page."""

    label: str
    ticks: Sequence[tuple[float, str]]
    low: float
    high: float
    logarithmic: bool = False

    def at(self, value: float, start: float, end: float) -> float:
        low, high, value = (
            (math.log10(v) for v in (self.low, self.high, value))
            if self.logarithmic
            else (self.low, self.high, value)
        )
        share = (value - low) / (high - low) if high > low else 0.5
        return start + share * (end - start)


def percent_axis(label: str) -> Axis:
    return Axis(label, [(v / 100, str(v)) for v in (0, 25, 50, 75, 100)], 0.0, 1.0)


def count_axis(label: str, counts: Sequence[int]) -> Axis:
    """Logarithmic, with a tick at each count."""
    return Axis(label, [(c, str(c)) for c in counts], min(counts), max(counts), True)


def value_axis(label: str, values: Sequence[float]) -> Axis:
    """From zero to beyond the greatest of the values, with round ticks."""
    top = max(values, default=0.0) or 1.0
    step = 10.0 ** math.floor(math.log10(top))
    step = next(step * part for part in (0.2, 0.5, 1.0, 2.0) if top / (step * part) <= _TICKS)
    ticks = [number * step for number in range(math.ceil(top / step) + 1)]
    return Axis(label, [(tick, f"{tick:g}") for tick in ticks], 0.0, ticks[-1])


def chart(
    title: str, x: Axis, y: Axis, series: Sequence[Series], events: Sequence[float] = ()
) -> str:
    """Lines with bands of confidence, or points alone; a vertical line at each event."""
    parts = [_axes(x, y)]
    for event in events:
        at = _x(x, event)
        parts.append(
            f'<line class="event" x1="{at:.1f}" x2="{at:.1f}" y1="{TOP}" y2="{HEIGHT - BOTTOM}"/>'
        )
    for one in series:
        places = [(_x(x, p.x), _y(y, p.y)) for p in one.points]
        parts.append(_band(x, y, one))
        if one.style != "none" and len(places) > 1:
            path = " ".join(f"{a:.1f},{b:.1f}" for a, b in places)
            parts.append(
                f'<polyline class="line c{one.colour % COLOURS} {one.style}" points="{path}"/>'
            )
        for (a, b), point in zip(places, one.points, strict=True):
            note = f"<title>{escape(f'{one.name}: {point.note}')}</title>"
            parts.append(
                f'<g class="dot c{one.colour % COLOURS}">{_mark(one.style, a, b)}{note}</g>'
            )
    return _svg(title, "".join(parts), HEIGHT)


def bars(title: str, values: Sequence[tuple[str, float, str, int]]) -> str:
    """Horizontal bars from zero: (name, value, the value as text, colour)."""
    top = max((value for _, value, _, _ in values), default=0.0) or 1.0
    parts = []
    room = WIDTH - 110 - 70
    for number, (name, value, text, colour) in enumerate(values):
        y = TOP + 10 + number * 26
        long = max(1.0, room * value / top)
        parts.append(f'<text class="end" x="104" y="{y + 13}">{escape(name)}</text>')
        parts.append(
            f'<rect class="bar c{colour % COLOURS}" x="110" y="{y}" width="{long:.1f}" '
            'height="18"/>'
        )
        parts.append(f'<text x="{116 + long:.1f}" y="{y + 13}">{escape(text)}</text>')
    return _svg(title, "".join(parts), TOP + 20 + 26 * len(values))


def stack(title: str, values: Sequence[tuple[str, float, str]]) -> str:
    """One bar of parts, each as long as its share: (name, value, the value as text)."""
    whole = sum(value for _, value, _ in values) or 1.0
    room, at, parts = WIDTH - 2 * RIGHT, float(RIGHT), []
    for number, (name, value, text) in enumerate(values):
        long = room * value / whole
        note = escape(f"{name}: {text}, {value / whole:.0%}")
        parts.append(
            f'<rect class="bar c{number % COLOURS}" x="{at:.1f}" y="{TOP}" width="{long:.1f}" '
            f'height="34"><title>{note}</title></rect>'
        )
        y = TOP + 56 + 18 * number
        parts.append(
            f'<rect class="bar c{number % COLOURS}" x="{RIGHT}" y="{y - 9}" width="10" '
            f'height="10"/><text x="{RIGHT + 18}" y="{y}">{note}</text>'
        )
        at += long
    return _svg(title, "".join(parts), TOP + 56 + 18 * len(values))


def _svg(title: str, content: str, height: int) -> str:
    return (
        f'<svg viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{escape(title)}">'
        f'<text class="title" x="{LEFT}" y="18">{escape(title)}</text>{content}</svg>'
    )


def _x(axis: Axis, value: float) -> float:
    return axis.at(value, LEFT + 10, WIDTH - RIGHT - 10)


def _y(axis: Axis, value: float) -> float:
    return axis.at(value, HEIGHT - BOTTOM, TOP)


def _axes(x: Axis, y: Axis) -> str:
    floor, side = HEIGHT - BOTTOM, WIDTH - RIGHT
    parts = []
    for value, text in y.ticks:
        at = _y(y, value)
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{side}" y1="{at:.1f}" y2="{at:.1f}"/>')
        parts.append(f'<text class="end" x="{LEFT - 6}" y="{at + 4:.1f}">{escape(text)}</text>')
    for value, text in x.ticks:
        at = _x(x, value)
        parts.append(f'<line class="grid" x1="{at:.1f}" x2="{at:.1f}" y1="{TOP}" y2="{floor}"/>')
        parts.append(f'<text class="middle" x="{at:.1f}" y="{floor + 16}">{escape(text)}</text>')
    middle = (LEFT + side) / 2
    parts.append(f'<text class="middle" x="{middle}" y="{HEIGHT - 6}">{escape(x.label)}</text>')
    parts.append(
        f'<text class="middle" transform="translate(12 {(TOP + floor) / 2}) rotate(-90)">'
        f"{escape(y.label)}</text>"
    )
    return "".join(parts)


def _band(x: Axis, y: Axis, series: Series) -> str:
    """Confidence intervals, as a bar at each point."""
    parts = []
    for point in series.points:
        if point.low is None or point.high is None:
            continue
        a, low, high = _x(x, point.x), _y(y, point.low), _y(y, point.high)
        parts.append(
            f'<line class="band c{series.colour % COLOURS}" x1="{a:.1f}" x2="{a:.1f}" '
            f'y1="{low:.1f}" y2="{high:.1f}"/>'
        )
    return "".join(parts)


def _mark(style: str, x: float, y: float) -> str:
    """Series of one colour differ in shape."""
    if style == "dashed":
        return f'<rect x="{x - 4:.1f}" y="{y - 4:.1f}" width="8" height="8"/>'
    if style == "dotted":
        return f'<path d="M{x:.1f} {y - 5:.1f}l5 9h-10z"/>'
    return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4"/>'
