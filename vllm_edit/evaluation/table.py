"""The tables of a result, and their Markdown."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from vllm_edit.evaluation.judging import (
    EFFICACY,
    FORCED,
    GENERALIZATION,
    GENERATED,
    LOCALITY_GROUP,
    NEIGHBOURHOOD,
    PARAPHRASE,
    PORTABILITY_GROUP,
    RELIABILITY,
)
from vllm_edit.evaluation.plan import SEQUENTIAL
from vllm_edit.evaluation.record import LOCALITY, PORTABILITY
from vllm_edit.evaluation.summary import SCORE

NONE = "-"
"""The cell of a value that was not measured."""

ResultRow = Mapping[str, Any]
Table = list[list[str]]
"""The first row is the head."""


def main_table(result: Mapping[str, Any]) -> Table:
    """The columns of Yao et al. 2023: reliability, generalization, locality, portability, cost.

    Each quality is in percent, generated / teacher-forced.
    """
    kinds = [kind for kind in PORTABILITY if _measured(result, f"{PORTABILITY_GROUP}.{kind}")]
    named = [RELIABILITY, GENERALIZATION, LOCALITY_GROUP]
    names = [*named, *(f"{PORTABILITY_GROUP}.{kind}" for kind in kinds)]
    titles = [_title(name) for name in names]
    head = ["method", "data", "edits", "judged", *titles, "s/edit", "memory GiB"]
    rows = [
        [
            row["method"],
            _data(result),
            edits(row),
            _judged(row),
            *(_pair(row, name) for name in names),
            _number(row["seconds_per_edit"], 3),
            _memory(result["costs"].get(row["method"], {})),
        ]
        for row in result["rows"]
    ]
    return [head, *rows]


def locality_table(result: Mapping[str, Any]) -> Table:
    """Locality by kind, with drift and, if measured, fluency and CounterFact's scores."""
    names = [f"{LOCALITY_GROUP}.{kind}" for kind in LOCALITY]
    names = [name for name in names if _measured(result, name)]
    likely = [name for name in (EFFICACY, PARAPHRASE, NEIGHBOURHOOD, SCORE) if _any(result, name)]
    fluent = ["fluency"] if any(row["fluency"] is not None for row in result["rows"]) else []
    head = ["method", "edits", "judged", *map(_title, names), *map(_title, likely), *fluent, "KL"]
    rows = [
        [
            row["method"],
            edits(row),
            _judged(row),
            *(_pair(row, name) for name in names),
            *(_percent(row["metrics"].get(name)) for name in likely),
            *(_number(row["fluency"], 2) for _ in fluent),
            _number(row["drift"], 4),
        ]
        for row in result["rows"]
    ]
    return [head, *rows]


def cost_table(result: Mapping[str, Any]) -> Table:
    """Preparation time and memory by method."""
    names = {
        "ready_bytes": "memory when ready GiB",
        "peak_bytes": "peak memory GiB",
        "device_ready_bytes": "device memory when ready GiB",
        "device_peak_bytes": "peak device memory GiB",
    }
    measured = [name for name in names if any(name in c for c in result["costs"].values())]
    head = ["method", "preparation s", *(names[name] for name in measured)]
    rows = [
        [
            method,
            _number(costs.get("preparation_seconds"), 2),
            *(gibibytes(costs.get(name)) for name in measured),
        ]
        for method, costs in result["costs"].items()
    ]
    return [head, *rows]


def markdown(result: Mapping[str, Any]) -> str:
    """The tables with notes."""
    parts = [
        aligned(main_table(result)),
        aligned(locality_table(result)),
        aligned(cost_table(result)),
        "\n".join(f"- {note}" for note in notes(result)),
    ]
    return "\n\n".join(parts) + "\n"


def notes(result: Mapping[str, Any]) -> list[str]:
    """How the figures were measured."""
    plan, machine = result["plan"], result["machine"]
    sentences = [
        f"Data {plan['source']}, {plan['edits']} records, seed {plan['seed']}; "
        f"{result['left_out']} records that cannot be edited were left out.",
        "Percentages are generated / teacher-forced: whole greedy answers that match, and the "
        "share of target tokens that are greedy after the target tokens before them. The second "
        "is usually higher.",
        "Locality is agreement with the unedited model, as the mean over kinds of probes. Probes "
        "that another edit in effect contradicts are left out.",
        f"KL is KL(unedited || edited) of the next token on {result['controls']} control prompts, "
        "in nats. It uses the 20 likeliest tokens and one class for the rest: a lower bound.",
        "s/edit is the median time from the request until the edit is active. Memory is the peak "
        "resident memory of all processes of the server; shared pages count in each process.",
        "Client machine: " + ", ".join(f"{name} {value}" for name, value in machine.items()),
    ]
    if any("device_peak_bytes" in costs for costs in result["costs"].values()):
        sentences.append(
            "Device memory is all memory in use on the GPUs, including the KV cache that the "
            "engine reserves and other programs."
        )
    failed = sum(row["failed"] for row in result["rows"])
    if failed:
        sentences.append(f"{failed} edits failed. They were judged as served, without effect.")
    return sentences


def edits(row: ResultRow) -> str:
    """The regime and the number of edits in effect together."""
    return NONE if row["regime"] == "none" else f"{row['regime']} {row['count']}"


def gibibytes(value: float | None) -> str:
    return NONE if value is None else f"{value / 2**30:.2f}"


def _judged(row: ResultRow) -> str:
    return (
        f"{row['records']} {row['moment']}" if row["regime"] == SEQUENTIAL else str(row["records"])
    )


def _data(result: Mapping[str, Any]) -> str:
    schema, _, path = result["plan"]["source"].partition(":")
    return f"{schema}:{path.rpartition('/')[2]}" if path else schema


def _title(name: str) -> str:
    group, _, kind = name.replace("_", " ").partition(".")
    return f"{'port.' if group == PORTABILITY_GROUP else group} {kind}" if kind else group


def _pair(row: ResultRow, name: str) -> str:
    metrics = [row["metrics"].get(f"{name}/{way}") for way in (GENERATED, FORCED)]
    return NONE if metrics == [None, None] else " / ".join(map(_percent, metrics))


def _percent(metric: Mapping[str, float] | None) -> str:
    return NONE if metric is None else f"{100 * metric['mean']:.1f}"


def _number(value: float | None, digits: int) -> str:
    return NONE if value is None else f"{value:.{digits}f}"


def _memory(costs: Mapping[str, float]) -> str:
    return gibibytes(costs.get("peak_bytes"))


def _measured(result: Mapping[str, Any], name: str) -> bool:
    return _any(result, f"{name}/{GENERATED}")


def _any(result: Mapping[str, Any], metric: str) -> bool:
    return any(metric in row["metrics"] for row in result["rows"])


def aligned(table: Sequence[Sequence[str]]) -> str:
    """The table as Markdown; the first row is the head."""
    head, *rows = [[str(cell) for cell in row] for row in table]
    return "\n".join(map(_line, [head, ["---"] * len(head), *rows]))


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"
