"""Plots as inline SVG for an HTML page that loads nothing. Matplotlib draws them."""

import io
import re
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from matplotlib.axes import Axes

WIDTH, HEIGHT = 380, 270
"""Size of a chart in SVG units."""

# The colours of Okabe and Ito, which colour-blind readers can tell apart.
_PALETTE = (
    "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#8c6d00", "#7f7f7f",
)  # fmt: skip
_MARKERS = {"solid": "o", "dashed": "s", "dotted": "^"}
_STYLE = {
    # One point of a font size or line width is one SVG unit.
    "figure.dpi": 72,
    "figure.constrained_layout.use": True,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "axes.axisbelow": True,
    "axes.edgecolor": "#8899aa66",
    "axes.titlelocation": "left",
    "axes.titleweight": "bold",
    "axes.titlesize": 12,
    "font.size": 10,
    "lines.markersize": 5,
    "grid.color": "#8899aa66",
    "svg.fonttype": "none",
    # With a fixed salt and no date, the same data give the same bytes.
    "svg.hashsalt": "vllm-edit",
}


@dataclass(frozen=True)
class Point:
    """`low` and `high` bound `y`. The browser shows `note` as the tooltip of the point."""

    x: float
    y: float
    low: float | None = None
    high: float | None = None
    note: str = ""


@dataclass(frozen=True)
class Series:
    """Points joined in their order; `colour` is the index of a colour of the palette."""

    name: str
    colour: int
    style: Literal["solid", "dashed", "dotted"]
    points: Sequence[Point]


@dataclass(frozen=True)
class Axis:
    """An axis. `percent`: 0 to 1, shown as 0 to 100. `count`: logarithmic, with `ticks`. `value`:
    from zero."""

    label: str
    kind: Literal["percent", "count", "value"]
    ticks: Sequence[int] = ()

    def properties(self, side: Literal["x", "y"]) -> dict[str, Any]:
        """Arguments of matplotlib's `Axes.set` for this side."""
        values: dict[str, Any] = {"label": self.label}
        if self.kind == "percent":
            shares = (0.0, 0.25, 0.5, 0.75, 1.0)
            values |= {"lim": (-0.03, 1.03), "ticks": shares}
            values |= {"ticklabels": [f"{share:.0%}".rstrip("%") for share in shares]}
        elif self.kind == "count":
            values |= {"scale": "log", "lim": (min(self.ticks) / 1.2, max(self.ticks) * 1.2)}
            values |= {"ticks": self.ticks, "ticklabels": [str(tick) for tick in self.ticks]}
        else:
            values |= {"lim": (0.0, None)}
        return {f"{side}{name}": value for name, value in values.items()}


def chart(
    title: str, x: Axis, y: Axis, series: Sequence[Series], events: Sequence[float] = ()
) -> str:
    """Lines through points, each with its confidence interval; a vertical line at each event."""

    def draw(axes: "Axes") -> None:
        for event in events:
            axes.axvline(event, color="#5c6675", linewidth=1, linestyle=(0, (3, 3)), gid="event")
        for one in series:
            _draw_series(axes, one)
        axes.grid(visible=True)
        axes.set(**x.properties("x"))
        axes.set(**y.properties("y"))
        axes.minorticks_off()

    return _svg(title, HEIGHT, draw)


def bars(title: str, values: Sequence[tuple[str, float, str, int]]) -> str:
    """Horizontal bars from zero: (name, value, the value as text, colour)."""
    names, lengths, texts, colours = zip(*values, strict=True)

    def draw(axes: "Axes") -> None:
        drawn = axes.barh(names, lengths, height=0.7, color=[_colour(c) for c in colours])
        axes.bar_label(drawn, texts, padding=6)
        axes.invert_yaxis()
        axes.margins(x=0.2)
        _hide_frame(axes)

    return _svg(title, 50 + 26 * len(values), draw)


def stack(title: str, values: Sequence[tuple[str, float, str]]) -> str:
    """One bar of parts, each as long as its share: (name, value, the value as text)."""
    whole = sum(value for _, value, _ in values) or 1.0

    def draw(axes: "Axes") -> None:
        start = 0.0
        for number, (name, value, text) in enumerate(values):
            note = f"{name}: {text}, {value / whole:.0%}"
            axes.barh(0, value, left=start, color=_colour(number), label=note, gid=note)
            start += value
        axes.set(xlim=(0, whole), yticks=())
        _hide_frame(axes)
        axes.figure.legend(loc="outside lower left", frameon=False)

    return _svg(title, 80 + 18 * len(values), draw)


def legend(names: Sequence[str], *marks: str) -> str:
    """HTML: each name with its colour, in the order of the palette, and then the marks."""
    coloured = [
        f'<span><span style="color: {_colour(number)}">●</span> {escape(name)}</span>'
        for number, name in enumerate(names)
    ]
    return "".join([*coloured, *(f"<span>{escape(mark)}</span>" for mark in marks)])


def _draw_series(axes: "Axes", series: Series) -> None:
    colour, marker = _colour(series.colour), _MARKERS[series.style]
    xs, ys = zip(*((point.x, point.y) for point in series.points), strict=True)
    axes.plot(xs, ys, color=colour, linestyle=series.style)
    for point in series.points:
        note = f"{series.name}: {point.note}"
        axes.plot(point.x, point.y, marker, color=colour, clip_on=False, gid=note)
        if point.low is not None and point.high is not None:
            axes.vlines(point.x, point.low, point.high, color=colour, linewidth=2, alpha=0.45)


def _colour(number: int) -> str:
    return _PALETTE[number % len(_PALETTE)]


def _hide_frame(axes: "Axes") -> None:
    axes.tick_params(length=0)
    axes.xaxis.set_visible(False)
    axes.spines[:].set_visible(False)


def _svg(title: str, height: int, draw: Any) -> str:
    """An SVG element of a new figure, into whose axes `draw` draws."""
    # Imported here: only reports need it.
    from matplotlib import style
    from matplotlib.figure import Figure

    file = io.StringIO()
    # A user's own matplotlibrc must not change a report.
    with style.context(["default", _STYLE]):
        figure = Figure(figsize=(WIDTH / 72, height / 72))
        axes = figure.add_subplot(title=textwrap.fill(title, 46))
        draw(axes)
        figure.savefig(
            file, format="svg", metadata=dict.fromkeys(("Creator", "Date", "Format", "Type"))
        )
    svg = file.getvalue().partition("<svg")[2].partition(">")[2].replace("xlink:href", "href")
    # Matplotlib numbers its groups anew in each figure; an id must be unique in the page.
    svg = re.sub(r' id="[\w.]+_\d+"', "", svg)
    svg = re.sub(r'<g id="([^"]*)">', r"<g><title>\1</title>", svg)
    head = f'class="plot" role="img" aria-label="{escape(title)}" viewBox="0 0 {WIDTH} {height}"'
    return f"<svg {head}>{svg}"
