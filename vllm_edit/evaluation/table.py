"""The tables of a result, and their Markdown."""

from collections.abc import Mapping
from typing import Any

from vllm_edit.evaluation.cells import (
    Table,
    aligned,
    data_name,
    edits,
    gibibytes,
    is_generated,
    is_measured,
    judged,
    memory,
    number,
    pair,
    percent,
    title,
)
from vllm_edit.evaluation.judging import (
    EFFICACY,
    GENERALIZATION,
    LOCALITY_GROUP,
    NEIGHBOURHOOD,
    PARAPHRASE,
    PORTABILITY_GROUP,
    RELIABILITY,
)
from vllm_edit.evaluation.notes import notes
from vllm_edit.evaluation.record import LOCALITY, PORTABILITY
from vllm_edit.evaluation.summary import SCORE
from vllm_edit.evaluation.told_tables import age_table, has_figures, otherwise_table, told_table


def main_table(result: Mapping[str, Any]) -> Table:
    """The columns of Yao et al. 2023: reliability, generalization, locality, portability, cost.

    Each quality is in percent, generated / teacher-forced.
    """
    kinds = [kind for kind in PORTABILITY if is_generated(result, f"{PORTABILITY_GROUP}.{kind}")]
    named = [RELIABILITY, GENERALIZATION, LOCALITY_GROUP]
    names = [*named, *(f"{PORTABILITY_GROUP}.{kind}" for kind in kinds)]
    titles = [title(name) for name in names]
    head = ["method", "data", "edits", "judged", *titles, "s/edit", "memory GiB"]
    rows = [
        [
            row["method"],
            data_name(result),
            edits(row),
            judged(row),
            *(pair(row, name) for name in names),
            number(row["seconds_per_edit"], 3),
            memory(result["costs"].get(row["method"], {})),
        ]
        for row in result["rows"]
    ]
    return [head, *rows]


def locality_table(result: Mapping[str, Any]) -> Table:
    """Locality by kind, with drift and, if measured, fluency and CounterFact's scores."""
    names = [f"{LOCALITY_GROUP}.{kind}" for kind in LOCALITY]
    names = [name for name in names if is_generated(result, name)]
    likely = [
        name for name in (EFFICACY, PARAPHRASE, NEIGHBOURHOOD, SCORE) if is_measured(result, name)
    ]
    fluent = ["fluency"] if any(row["fluency"] is not None for row in result["rows"]) else []
    head = ["method", "edits", "judged", *map(title, names), *map(title, likely), *fluent, "KL"]
    rows = [
        [
            row["method"],
            edits(row),
            judged(row),
            *(pair(row, name) for name in names),
            *(percent(row["metrics"].get(name)) for name in likely),
            *(number(row["fluency"], 2) for _ in fluent),
            number(row["drift"], 4),
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
            number(costs.get("preparation_seconds"), 2),
            *(gibibytes(costs.get(name)) for name in measured),
        ]
        for method, costs in result["costs"].items()
    ]
    return [head, *rows]


def markdown(result: Mapping[str, Any]) -> str:
    """The tables with notes."""
    parts = [
        aligned(told_table(result)),
        *(
            aligned(table)
            for table in (otherwise_table(result), age_table(result))
            if has_figures(table)
        ),
        aligned(main_table(result)),
        aligned(locality_table(result)),
        aligned(cost_table(result)),
        "\n".join(f"- {note}" for note in notes(result)),
    ]
    return "\n\n".join(parts) + "\n"
