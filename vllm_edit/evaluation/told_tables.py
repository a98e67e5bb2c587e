"""The tables of what is told and what is kept."""

from collections.abc import Mapping
from typing import Any

from vllm_edit.evaluation.cells import Table, edits, is_measured, judged, with_floor
from vllm_edit.evaluation.judging import (
    GENERALIZATION,
    LEAK,
    LOCALITY_GROUP,
    NEIGHBOURHOOD,
    PARAPHRASE,
    RELIABILITY,
)
from vllm_edit.evaluation.more_questions import GROUP as ASKED
from vllm_edit.evaluation.probe_scores import BEGINS, FIRST_WORD, GENERATED, RUN_ON, SIX_TOKENS
from vllm_edit.evaluation.record import OTHER_SUBJECTS

_NAMES = ("method", "edits", "judged")


def told_table(result: Mapping[str, Any]) -> Table:
    """What is told, and what is kept beside how the unedited model keeps it; in percent.

    Neighbours are prompts about other subjects; where the data have none, all locality prompts.
    """
    near = f"{LOCALITY_GROUP}.{OTHER_SUBJECTS}"
    near = near if is_measured(result, f"{near}/{FIRST_WORD}") else LOCALITY_GROUP
    columns = {
        "told": f"{RELIABILITY}/{BEGINS}",
        "run-on": f"{RELIABILITY}/{RUN_ON}",
        "exact": f"{RELIABILITY}/{GENERATED}",
        "reworded told": f"{GENERALIZATION}/{BEGINS}",
        "kept first word": f"{near}/{FIRST_WORD}",
        "kept six tokens": f"{near}/{SIX_TOKENS}",
        "kept sentence": f"{near}/{GENERATED}",
        "leak": LEAK,
        "NS": NEIGHBOURHOOD,
        "PS": PARAPHRASE,
    }
    return _of_columns(result, columns)


def otherwise_table(result: Mapping[str, Any]) -> Table:
    """The scores of further questions; only the head if none was asked."""
    names = sorted(
        {n for row in result["rows"] for n in row["metrics"] if n.startswith(f"{ASKED}.")}
    )
    return _of_columns(result, {name.partition(".")[2].replace("_", " "): name for name in names})


def age_table(result: Mapping[str, Any]) -> Table:
    """What is told at the end of a sequence, by the age of the edits; only the head without one."""
    rows = [
        [
            row["method"],
            edits(row),
            f"{part['first']} to {part['last']}",
            f"{100 * part['told']:.1f}",
        ]
        for row in result["rows"]
        for part in row.get("by_age", ())
    ]
    return [["method", "edits", "made as number", "told at the end"], *rows]


def has_figures(table: Table) -> bool:
    """Whether a table has more than a head and the names of its rows."""
    return len(table) > 1 and len(table[0]) > len(_NAMES)


def _of_columns(result: Mapping[str, Any], columns: Mapping[str, str]) -> Table:
    """A row for each row of the result, with the columns that are measured."""
    measured = {title: name for title, name in columns.items() if is_measured(result, name)}
    rows = [
        [row["method"], edits(row), judged(row)]
        + [with_floor(row["metrics"].get(name)) for name in measured.values()]
        for row in result["rows"]
    ]
    return [[*_NAMES, *measured], *rows]
