"""The picture of a search: what the settings tell, reword and keep."""

from collections.abc import Sequence
from pathlib import Path

from weight_patchers.tuning.search import Found

_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#8c6d00", "#7f7f7f")
_MARKERS = {"single": "o", "batch": "s"}


def draw(found: Sequence[Found], path: Path) -> None:
    """Write the picture; what is filled has no better one, a cross is what was in force before."""
    from matplotlib import style
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

    with style.context("default"):
        figure = Figure(figsize=(10, 4.6), layout="constrained")
        axes = figure.subplots(1, 2)
        handles = []
        for number, result in enumerate(found):
            colour = _COLOURS[number % len(_COLOURS)]
            handles.append(Line2D([], [], color=colour, marker="o", ls="", label=result.method))
            pairs = zip(result.trials, result.on_front, strict=True)
            for trial, ahead in pairs:
                for regime, scores in trial.scores.items():
                    filled = colour if ahead else "none"
                    look = {"marker": _MARKERS[regime], "ls": "", "color": colour, "alpha": 0.8}
                    look |= {"markerfacecolor": filled, "markersize": 8}
                    points = (scores.told, scores.reworded or 0.0)
                    for axis, height in zip(axes, points, strict=True):
                        axis.plot(scores.kept_word, height, **look)
                        if trial.settings == result.before:
                            axis.plot(scores.kept_word, height, "x", color="black")
        names = {"single": "each edit alone", "batch": "all at once"}
        for regime, marker in _MARKERS.items():
            handles.append(Line2D([], [], color="grey", marker=marker, ls="", label=names[regime]))
        handles.append(Line2D([], [], color="black", marker="x", ls="", label="settings before"))
        for axis, label in zip(axes, ("told", "reworded"), strict=True):
            axis.set(xlabel="first word of other answers kept", ylabel=label)
            axis.set(xlim=(-0.03, 1.03), ylim=(-0.03, 1.03))
            axis.grid(visible=True, alpha=0.4)
        figure.legend(handles=handles, loc="outside lower center", ncols=6, frameon=False)
        figure.savefig(path, dpi=120)
