"""What a sequence of edits keeps: by the age of an edit, and until when."""

from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Any

from vllm_edit.domain.scoring import mean
from vllm_edit.evaluation.judging import RELIABILITY
from vllm_edit.evaluation.plan import END, SEQUENTIAL
from vllm_edit.evaluation.probe_scores import BEGINS

PARTS = 10
TOLD = f"{RELIABILITY}/{BEGINS}"


def by_age(judged: Sequence[Mapping[str, Any]]) -> list[dict[str, float | int]]:
    """The share of edits told at the end of a sequence, the oldest tenth first.

    `judged` are in the order in which the edits were made. `first` and `last` number the edits of
    a part; a short sequence has fewer parts.
    """
    told = [one["scores"][TOLD] for one in judged if TOLD in one["scores"]]
    bounds = [round(part * len(told) / PARTS) for part in range(PARTS + 1)]
    return [
        {"first": start + 1, "last": end, "told": mean(told[start:end])}
        for start, end in pairwise(bounds)
        if end > start
    ]


def collapse_points(rows: Iterable[Mapping[str, Any]], bound: float) -> dict[str, int | None]:
    """By method, the smallest measured number of edits of which fewer than `bound` are told.

    None if there is no such number among those at which the sequence was judged.
    """
    points: dict[str, int | None] = {}
    for row in sorted(rows, key=lambda row: int(row["count"])):
        if row["regime"] == SEQUENTIAL and row["moment"] == END and TOLD in row["metrics"]:
            points.setdefault(row["method"], None)
            if points[row["method"]] is None and row["metrics"][TOLD]["mean"] < bound:
                points[row["method"]] = int(row["count"])
    return points
