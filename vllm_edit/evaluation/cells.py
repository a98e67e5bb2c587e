"""The cells of tables, and tables as Markdown."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from vllm_edit.evaluation.judging import PORTABILITY_GROUP
from vllm_edit.evaluation.plan import SEQUENTIAL
from vllm_edit.evaluation.probe_scores import FORCED, GENERATED

NONE = "-"
"""The cell of a value that was not measured."""

ResultRow = Mapping[str, Any]

Table = list[list[str]]
"""The first row is the head."""


def edits(row: ResultRow) -> str:
    """The regime and the number of edits in effect together."""
    return NONE if row["regime"] == "none" else f"{row['regime']} {row['count']}"


def gibibytes(value: float | None) -> str:
    """The bytes in GiB."""
    return NONE if value is None else f"{value / 2**30:.2f}"


def judged(row: ResultRow) -> str:
    """The number of records judged and, in a sequence, when."""
    return (
        f"{row['records']} {row['moment']}" if row["regime"] == SEQUENTIAL else str(row["records"])
    )


def data_name(result: Mapping[str, Any]) -> str:
    """The schema and the name of the file."""
    schema, _, path = result["plan"]["source"].partition(":")
    return f"{schema}:{path.rpartition('/')[2]}" if path else schema


def title(name: str) -> str:
    """The head of a metric's column."""
    group, _, kind = name.replace("_", " ").partition(".")
    return f"{'port.' if group == PORTABILITY_GROUP else group} {kind}" if kind else group


def pair(row: ResultRow, name: str) -> str:
    """Generated / teacher-forced in percent, and the floors of both in brackets if they have."""
    metrics = [row["metrics"].get(f"{name}/{way}") for way in (GENERATED, FORCED)]
    if metrics == [None, None]:
        return NONE
    pair = " / ".join(map(percent, metrics))
    floors = [f"{100 * metric['floor']:.1f}" for metric in metrics if metric and "floor" in metric]
    return f"{pair} ({' / '.join(floors)})" if floors else pair


def with_floor(metric: Mapping[str, float] | None) -> str:
    """The mean in percent; in brackets that of the unedited model against itself, if it counts."""
    floor = "" if metric is None or "floor" not in metric else f" ({100 * metric['floor']:.1f})"
    return f"{percent(metric)}{floor}"


def percent(metric: Mapping[str, float] | None) -> str:
    """The mean in percent."""
    return NONE if metric is None else f"{100 * metric['mean']:.1f}"


def number(value: float | None, digits: int) -> str:
    """The value with so many digits behind the point."""
    return NONE if value is None else f"{value:.{digits}f}"


def memory(costs: Mapping[str, float]) -> str:
    """The peak memory in GiB."""
    return gibibytes(costs.get("peak_bytes"))


def is_generated(result: Mapping[str, Any], name: str) -> bool:
    """Whether any row has generated answers for the metric."""
    return is_measured(result, f"{name}/{GENERATED}")


def is_measured(result: Mapping[str, Any], metric: str) -> bool:
    """Whether any row has the metric."""
    return any(metric in row["metrics"] for row in result["rows"])


def aligned(table: Sequence[Sequence[str]]) -> str:
    """The table as Markdown; the first row is the head."""
    head, *rows = [[str(cell) for cell in row] for row in table]
    return "\n".join(map(_line, [head, ["---"] * len(head), *rows]))


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"
