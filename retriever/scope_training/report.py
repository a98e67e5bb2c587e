"""The report of an evaluation: the curve over thresholds, and each data set at one threshold."""

from collections.abc import Sequence
from typing import Any, get_args

from retriever.scope_training.evaluation import Outcome, share
from retriever.scope_training.pair import Kind

THRESHOLDS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.98, 0.99)
HARD, EASY = 0.04, 0.001
"""Highest false-alarm rates of a chosen threshold on the validation side, if there is a choice, so
that it gives at most 0.05 and 0.001 on other subjects."""
_KINDS = get_args(Kind)


def curve(outcomes: Sequence[Outcome]) -> list[dict[str, float]]:
    """For each threshold, the share of each kind that is found or, for negatives, disturbed."""
    return [{"threshold": threshold, **_shares(outcomes, threshold)} for threshold in THRESHOLDS]


def choose_threshold(outcomes: Sequence[Outcome]) -> float:
    """The threshold within `HARD` and `EASY` that has the best balanced accuracy.

    That accuracy is over the in-scope and the hard pairs. If none is within, the highest one.
    """
    rows = curve(outcomes)
    bounded = [r for r in rows if r.get("hard", 0.0) <= HARD and r.get("easy", 0.0) <= EASY]
    best = max(bounded, key=lambda r: r.get("in_scope", 0.0) - r.get("hard", 0.0), default=rows[-1])
    return best["threshold"]


def report(outcomes: Sequence[Outcome], threshold: float, edits: int) -> dict[str, Any]:
    """The whole report as JSON values. `edits` is the size of the memory."""
    sources = sorted({outcome.pair.source for outcome in outcomes})
    return {
        "edits": edits,
        "requests": len(outcomes),
        "threshold": threshold,
        "all": _shares(outcomes, threshold),
        "curve": curve(outcomes),
        "data_sets": {
            source: _shares([o for o in outcomes if o.pair.source == source], threshold)
            for source in sources
        },
        "counts": {
            source: {kind: _count(outcomes, source, kind) for kind in _KINDS} for source in sources
        },
    }


def table(evaluation: dict[str, Any]) -> str:
    """A report as a table for people."""
    lines = [f"{evaluation['edits']} edits in memory, {evaluation['requests']} requests"]
    lines.append(f"{'threshold':26}" + "".join(f"{kind:>11}" for kind in _KINDS))
    lines += [f"{row['threshold']:<26}" + _cells(row) for row in evaluation["curve"]]
    lines.append(f"at {evaluation['threshold']}")
    rows = (*evaluation["data_sets"].items(), ("all", evaluation["all"]))
    lines += [f"{source:26}" + _cells(row) for source, row in rows]
    lines.append("in_scope, multi_hop: right edit found; hard, easy: any edit found")
    return "\n".join(lines)


def _cells(row: dict[str, float]) -> str:
    return "".join(f"{row[kind]:11.4f}" if kind in row else f"{'':11}" for kind in _KINDS)


def _shares(outcomes: Sequence[Outcome], threshold: float) -> dict[str, float]:
    present = {outcome.pair.kind for outcome in outcomes}
    return {kind: round(share(outcomes, kind, threshold), 5) for kind in _KINDS if kind in present}


def _count(outcomes: Sequence[Outcome], source: str, kind: str) -> int:
    return sum(o.pair.source == source and o.pair.kind == kind for o in outcomes)
